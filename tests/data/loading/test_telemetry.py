"""What a step tells of its images, and why it waited."""

import dataclasses
import re
from pathlib import Path

import pytest

from apdist.config import DataConfig
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.telemetry import StreamFigures, Waiting
from tests.data.loading.streams import stream_of


def test_a_step_tells_what_was_read(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    (batch,) = stream_of(catalogue).batches(0, 1)
    figures = batch.figures
    rows = stream_of(catalogue).plan.rows(0)
    assert figures.num_images == 16
    assert figures.num_bytes == int(catalogue.table["size"].to_numpy()[rows].sum())
    assert figures.read_s > 0
    assert figures.decode_s > 0


def waiting_figures(**changes: float) -> StreamFigures:
    names = [field.name for field in dataclasses.fields(StreamFigures)]
    return StreamFigures(**dict.fromkeys(names, 0) | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "options", "reason"),
    [
        (
            {"read_s": 3, "decode_s": 1},
            {"shards": "s3://bucket/shards"},
            "loaders wait for bytes; try --data.loader-reads 16, or",
        ),
        ({"read_s": 3, "decode_s": 1}, {"shards": "/here"}, "--data.loader-reads 16$"),
        ({"read_s": 3, "decode_s": 1}, {"cache_dir": "/x"}, "--data.loader-reads 16$"),
        ({"num_retries": 1, "read_s": 3}, {}, "look at the network"),
        ({"decode_s": 3}, {"loader_processes": 1}, "try --data.loader-processes 2"),
        ({"decode_s": 60}, {"loader_processes": 64}, "decoding takes all CPUs"),
    ],
)
def test_waiting_for_images_is_said_once_with_its_reason(
    figures: dict[str, float], options: dict[str, object], reason: str
) -> None:
    waiting = Waiting(DataConfig(**options))  # type: ignore[arg-type]
    told = [waiting.note(waiting_figures(waited_s=0.5, **figures), 1.0) for _ in range(30)]
    assert [text for text in told if text] == [told[9]]
    assert told[9].startswith("50% of the time the training waits")
    assert re.search(reason, told[9])
    idle = Waiting(DataConfig())
    assert not any(idle.note(waiting_figures(waited_s=0.1), 1.0) for _ in range(30))
