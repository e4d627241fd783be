"""Options completed by what only this machine knows: paths from the root, the backbone's side."""

import dataclasses
import os

from apdist.config import Config
from apdist.data import storage
from apdist_verbs.terminal.progress import phase


def with_own_side(config: Config) -> Config:
    """``config`` with the side of its backbone where ``data.image_size`` is 0.

    Raises:
        ValueError: the backbone has none, or is not there.
    """
    if config.data.image_size:
        return config
    from apdist.model.backbones import build_backbone

    with phase("building the network"):
        side = build_backbone(config.model.backbone)[1].side
    if not side:
        raise ValueError(
            f"data.image_size 0 is the side that model.backbone was trained with, and "
            f"{config.model.backbone} is trained from nothing; give one, such as 64"
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=side))


def with_absolute_paths(config: Config) -> Config:
    """``config`` with absolute paths: workers run in other folders, perhaps on other machines."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            shards=storage.absolute(config.data.shards),
            exclude=config.data.exclude and storage.absolute(config.data.exclude),
        ),
        evaluation=dataclasses.replace(
            config.evaluation,
            sets=tuple(
                str(dataclasses.replace(found, shards=storage.absolute(found.shards)))
                for found in config.evaluation.named_sets
            ),
        ),
        run=dataclasses.replace(config.run, output=storage.absolute(config.run.output)),
        model=dataclasses.replace(
            config.model,
            backbone=_absolute_backbone(config.model.backbone),
            weights=config.model.weights and storage.absolute(config.model.weights),
        ),
    )


def _absolute_backbone(name: str) -> str:
    """The same backbone, of which a folder is named from the root."""
    kind, _, folder = name.partition(":")
    path = os.path.expanduser(folder)
    return f"{kind}:{os.path.abspath(path)}" if folder and os.path.isdir(path) else name
