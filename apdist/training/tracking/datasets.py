"""What a run learns from and is measured on, as MLflow shows it: name, fingerprint, counts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from apdist.addresses import without_secrets
from apdist.config import Config
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.catalogue.selection import (
    evaluation_images,
    training_images,
    validation_images,
    validation_name,
)

CONTEXT = "mlflow.data.context"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images of one use."""

    name: str
    """Of the shards, with the split."""
    context: str
    """training, validation or evaluation."""
    uri: str
    """Of the shards, without secrets."""
    fingerprint: str
    num_images: int
    num_classes: int


def datasets_of(config: Config, catalogue: Catalogue) -> list[dict[str, Any]]:
    """What ``config`` uses of ``catalogue``, as run.json keeps it.

    Raises:
        ValueError: a split is missing.
    """
    data, seed = config.data, config.training.seed
    used = [(data.train_split, "training", training_images(catalogue, data, seed))]
    held_out = validation_images(catalogue, data, seed)
    if held_out is not None:
        used.append((validation_name(data), "validation", held_out))
    if data.eval_split:
        used.append((data.eval_split, "evaluation", evaluation_images(catalogue, data, seed)))
    return [asdict(_dataset(config, split, context, images)) for split, context, images in used]


def _dataset(config: Config, split: str, context: str, images: Catalogue) -> Dataset:
    uri = storage.shown(config.data.shards)
    parts = [part for part in without_secrets(uri).partition("?")[0].split("/") if part]
    # Half the folders with shards are called so.
    named = parts[-2:] if parts[-1:] == ["shards"] else parts[-1:]
    return Dataset(
        name=f"{'/'.join(named)} {split}",
        context=context,
        uri=uri,
        fingerprint=images.fingerprint(),
        num_images=len(images),
        num_classes=len(np.unique(images.labels)),
    )


def inputs(datasets: Iterable[Mapping[str, Any]]) -> list[Any]:
    """MLflow's inputs of a run."""
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    return [
        DatasetInput(
            MlflowDataset(
                name=found["name"][:500],  # MLflow's own limit
                digest=found["fingerprint"],
                source_type="s3"
                if found["uri"].startswith("s3:")
                else "local"
                if "://" not in found["uri"]
                else "http",
                source=json.dumps({"uri": found["uri"]}),
                profile=json.dumps(
                    {"num_rows": found["num_images"], "num_classes": found["num_classes"]}
                ),
            ),
            tags=[InputTag(CONTEXT, found["context"])],
        )
        for found in datasets
    ]
