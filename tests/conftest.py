"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from apdist.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    RayConfig,
    RunConfig,
    TrackingConfig,
    TrainingConfig,
)
from apdist.data.storage import retries
from tests.pictures import SIDE, write_small_set
from tests.s3_server import S3Server, s3_server

# Two processes begin with the files that take longest: one that computes, one that waits.
FIRST = ["test_cluster", "test_resuming", "test_step", "test_stream_faults"]
FIRST += ["test_triton_histogram", "test_errors", "test_loop", "test_encoding"]

# Lines wrap at the width of a terminal, which readline leaves to the processes of xdist. Here: the
# console keeps what it finds when it is first imported, as by another conftest.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

if not torch.cuda.is_available():
    # Triton's interpreter stands in for a GPU; it is chosen when anything first imports triton.
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_configure() -> None:
    """Let results not depend on where the tests are started."""
    # A shell starts its background jobs without Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Ray gives way to every other process, until deadlines are missed on busy cores.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its own spelling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of ``FIRST`` first; the others stay in their order."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The machine has few cores and the tensors are small."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_server_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of one test may come again in another, where nobody listens there."""
    monkeypatch.setattr(retries, "_answering", set())


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 12 classes with 6 images each, 4 classes for testing."""
    root = tmp_path_factory.mktemp("small set")
    write_small_set(root)
    return root


@pytest.fixture
def small_config(shards: Path, tmp_path: Path) -> Config:
    """A training of seconds, in this process, without MLflow."""
    return Config(
        data=DataConfig(shards=str(shards), image_size=SIDE, group_size=4, loader_processes=0),
        model=ModelConfig(dim=16),
        training=TrainingConfig(batch_size=32, chunk_size=8, steps=6, learning_rate=3e-3),
        evaluation=EvaluationConfig(every_steps=3),
        checkpoint=CheckpointConfig(every_steps=2),
        ray=RayConfig(num_workers=0),
        tracking=TrackingConfig(enabled=False),
        run=RunConfig(output=str(tmp_path / "runs")),
    )


@pytest.fixture(scope="session")
def s3_of_this_process() -> Iterator[S3Server]:
    """A server that tests share which do not disturb it."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_this_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The shared server, which the environment leads to; each test has a prefix of its own."""
    for name, value in s3_of_this_process.environment().items():
        monkeypatch.setenv(name, value)
    return s3_of_this_process
