"""Files beside a run in MLflow: its options and its model, as the run's folder has them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from apdist.config import to_json
from apdist.data import storage

if TYPE_CHECKING:
    from apdist.training.run_folder.runs import Run
    from apdist.training.tracking.mlflow_run import MlflowRun

logger = logging.getLogger(__name__)

MODEL = "model"
"""Folder of the model among the files."""
MODEL_FILES = ("model.json", "model.safetensors")
# As apdist.model.pretrained names them, which needs torch.


@contextmanager
def local_model(run: Run) -> Iterator[Path]:
    """A folder on this machine with the files of the run's model."""
    if (path := storage.local_path(run.uri)) is not None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in MODEL_FILES:
            Path(folder, name).write_bytes(storage.read_bytes(storage.join(run.uri, name)))
        yield Path(folder)


def send_config(run: Run, there: MlflowRun) -> None:
    """Upload config.json of ``run``, without secrets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(to_json(run.config))
        there.log_file(path)


def send_model(run: Run, there: MlflowRun) -> None:
    """Upload the model of ``run``, unless it is larger than the options allow."""
    most = run.config.tracking.max_model_mb * 1_000_000
    is_there = all(storage.exists(storage.join(run.uri, name)) for name in MODEL_FILES)
    if not most or not is_there:  # a person may have taken it away to make room
        return
    with local_model(run) as folder:
        paths = [folder / name for name in MODEL_FILES]
        size = sum(path.stat().st_size for path in paths)
        if size > most:
            logger.info("the model of %d MB stays in the run's folder", size / 1e6)
            return
        for path in paths:
            there.log_file(path, MODEL)
