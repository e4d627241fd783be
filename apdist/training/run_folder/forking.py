"""A new run that begins at a checkpoint of another one."""

import dataclasses
import io

import torch

from apdist.config import Config, config_hash
from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.training.learning.freezing import build_trainable
from apdist.training.run_folder.checkpoint import (
    FOLDER,
    SoundCheckpoint,
    checkpoint_name,
    newest_sound,
    write_marker,
    write_state,
)
from apdist.training.run_folder.kept_weights import START, copy_weights
from apdist.training.run_folder.runs import Run, create_run


def fork(parent: Run, config: Config) -> tuple[Run, int]:
    """Make a run with ``config`` from the newest sound checkpoint of ``parent``; and its step.

    Its own history begins there, and what is learned may be decided otherwise from there on.

    Raises:
        ValueError: there is no checkpoint, it does not fit, or there is a run of the new name.
    """
    found = _found(parent, config, with_state=True)
    step = found.marker.step
    _refuse_other_network(found, config)
    images = training_images(read_catalogue(config.data.shards), config.data, config.training.seed)
    run = create_run(config, parent.preset)
    run.save_info(parent={"run": parent.uri, "step": step})
    start = {role: name for role, name in found.marker.weights.items() if role == START}
    for name in start.values():  # a blend starts from the weights that the parent started from
        copy_weights(parent.uri, run.uri, name)
    marker = dataclasses.replace(
        found.marker,
        weights=start,
        config_hash=config_hash(run.config),
        data_hash=images.fingerprint(),
        history=(),
    )
    place = storage.join(run.uri, f"{FOLDER}/{checkpoint_name(step)}")
    write_marker(run.uri, write_state(place, found.state, marker))
    return run, step


def refuse_unforkable(parent: Run, config: Config) -> None:
    """Raise unless `fork` would find what it needs, as far as that needs no network.

    Raises:
        ValueError: there is no checkpoint, or it does not fit.
    """
    _found(parent, config, with_state=False)


def _found(parent: Run, config: Config, *, with_state: bool) -> SoundCheckpoint:
    found = newest_sound(parent.uri, with_state=with_state)
    if found is None:
        raise ValueError(f"{parent.uri} has no checkpoint to begin at; train it first")
    if found.marker.step >= config.training.steps:
        raise ValueError(
            f"training.steps is {config.training.steps}, and the checkpoint has done "
            f"{found.marker.step} steps; give a larger --training.steps"
        )
    kinds = parent.config.training.optimizer, config.training.optimizer
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the checkpoint holds the state of {kinds[0]}, not of {kinds[1]}; leave "
            "--training.optimizer as it is"
        )
    return found


def _refuse_other_network(found: SoundCheckpoint, config: Config) -> None:
    state = torch.load(io.BytesIO(found.state), map_location="cpu", weights_only=True)["model"]
    for name, value in (
        build_trainable(config.model, config.lora, config.training).state_dict().items()
    ):
        there = tuple(state[name].shape) if name in state else "nothing"
        if there != tuple(value.shape):
            raise ValueError(
                f"the checkpoint has another network: {name} is {there} there and "
                f"{tuple(value.shape)} here; leave the options of model and lora as they are"
            )
