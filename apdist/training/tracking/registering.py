"""A run's model as a version in MLflow's registry, which takes pictures and gives descriptors."""

from __future__ import annotations

import base64
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apdist
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.text import printable
from apdist.training.events import Ended
from apdist.training.tracking.artifacts import MODEL, MODEL_FILES, local_model
from apdist.training.tracking.description import described

if TYPE_CHECKING:
    from apdist.training.run_folder.runs import Run

NEEDED = ("boto3", "mlflow", "numpy", "pandas", "pillow", "pyarrow", "safetensors", "torch")
"""Packages that the model is loaded with; apdist itself travels with it."""
CODE = (
    "__init__.py",
    "_face.py",
    "addresses.py",
    "given.py",
    "arrays.py",
    "config",
    "data",
    "model",
)
"""What of apdist that is: the floors up to the network."""
FOLDER = "descriptors"
"""Name of the model among those of its run."""


def refuse_unregistrable(run: Run, name: str) -> None:
    """Raise unless the model of ``run`` can become a version of ``name``.

    Raises:
        ValueError: the run has none yet, or MLflow takes no such name.
    """
    if not name.strip() or set(name) & set("/:") or printable(name) != name:
        raise ValueError(f"--register {name!r}: expected a name without / and :, as faces")
    if not run.of_kind(Ended):
        raise ValueError(
            f"{run.uri} has no model yet, after {run.steps_done} of {run.config.training.steps} "
            f"steps; train it to its end first: apdist train --resume {run.uri}"
        )


def register(run: Run, name: str) -> int:
    """Make the model of ``run`` the next version of ``name``; returns its number.

    Raises:
        Exception: whatever MLflow throws where its store or its files cannot be reached.
    """
    from mlflow import MlflowClient, pyfunc
    from mlflow.models import Model

    run_id, client = str(run.info["tracking_run_id"]), MlflowClient(run.config.tracking.uri)
    there = client.get_run(run_id)
    with model_parts(run) as parts:
        # Here: `Model.log` would put it into whatever experiment is the default.
        made = client.create_logged_model(
            there.info.experiment_id,
            name=FOLDER,
            source_run_id=run_id,
            params=there.data.params,
            model_type="descriptors",
        )
        logged = Model.log(
            None,
            pyfunc,
            model_id=made.model_id,
            registered_model_name=name,
            run_id=run_id,
            **parts,
        )
        number = int(logged.registered_model_version)
        _tell(run, name, number)
    return number


@contextmanager
def model_parts(run: Run) -> Iterator[dict[str, Any]]:
    """What MLflow makes a model of, by its own names, while the files of it are here."""
    with local_model(run) as source, tempfile.TemporaryDirectory() as folder, _quiet(run):
        model, code = Path(folder, MODEL), Path(folder, "apdist")
        model.mkdir()
        for file in MODEL_FILES:
            shutil.copyfile(source / file, model / file)
        _copy_code(code)
        yield {
            "python_model": str(Path(__file__).with_name("served.py")),
            "artifacts": {MODEL: str(model)},
            "code_paths": [str(code)],
            "signature": _signature(str(model)),
            "input_example": _example(),
            "pip_requirements": _requirements(str(model)),
            "metadata": {"run": storage.shown(run.uri)},
        }


def _copy_code(target: Path) -> None:
    """Copy the rooms that describe pictures; of what is not installed a server could have none."""
    own = Path(apdist.__file__).parent
    target.mkdir()
    for name in CODE:
        if (own / name).is_dir():
            shutil.copytree(own / name, target / name, ignore=_but_code)
        else:
            shutil.copyfile(own / name, target / name)


def _but_code(folder: str, names: list[str]) -> list[str]:
    return [
        n for n in names if not n.endswith(".py") and not Path(folder, n, "__init__.py").exists()
    ]


def _tell(run: Run, name: str, number: int) -> None:
    """Describe a version, and the model where nobody has."""
    from mlflow import MlflowClient

    client, key = MlflowClient(run.config.tracking.uri), str(number)
    client.update_model_version(name, key, described(run))
    client.set_model_version_tag(name, key, "apdist.model_id", run.of_kind(Ended)[-1].model_id)
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, "Pictures in, descriptors out: trained by apdist.")


@contextmanager
def _quiet(run: Run) -> Iterator[None]:
    """MLflow's own way to log a model asks a global address, and tells its steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    logger = logging.getLogger("mlflow")
    before, level = mlflow.get_tracking_uri(), logger.level
    mlflow.set_tracking_uri(run.config.tracking.uri)
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mlflow.set_tracking_uri(before)
        logger.setLevel(level)


def _signature(folder: str) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    dim = read_json(Path(folder, "model.json").read_text())["model"]["dim"]
    # Bytes, base64 or pixels: no one type of MLflow is all of these.
    kind = AnyType()  # type: ignore[no-untyped-call]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, "image")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, int(dim) or -1))]),
    )


def _example() -> Any:
    """A table with one small picture, in base64 as a request has it."""
    import pandas as pd
    from PIL import Image

    file = io.BytesIO()
    Image.radial_gradient("L").resize((32, 32)).convert("RGB").save(file, format="PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})


def _requirements(folder: str) -> list[str]:
    """What loading needs, in the versions that are here, of whatever build."""
    from apdist.model.hub import HubBackbone
    from apdist.model.pretrained import load_model

    is_of_hub = isinstance(getattr(load_model(folder).network, "backbone", None), HubBackbone)
    names = (*NEEDED, "transformers") if is_of_hub else NEEDED
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]
