"""Streams for the tests."""

import dataclasses

import psutil

from apdist.config import AugmentConfig, DataConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.stream import Batch, TrainingStream
from apdist.data.plan.batch_sampler import Plan
from tests.pictures import SIDE


def stream_of(catalogue: Catalogue, part: slice = slice(None), **options: object) -> TrainingStream:
    options = {"loader_processes": 0} | options
    data = DataConfig(image_size=SIDE, group_size=4, **options)  # type: ignore[arg-type]
    plan = Plan(catalogue.labels, batch_size=16, group_size=4, seed=0)
    return TrainingStream(catalogue, plan, data, AugmentConfig(), lambda rows: rows[part])


def loaders() -> list[psutil.Process]:
    """Loader processes of this one."""
    children = psutil.Process().children()
    return [child for child in children if "loader_process" in " ".join(child.cmdline())]


def all_batches(stream: TrainingStream, start: int = 0, stop: int = 5) -> list[Batch]:
    """Copies: the stream uses its memory again."""
    return [
        dataclasses.replace(batch, images=batch.images.clone())
        for batch in stream.batches(start, stop)
    ]
