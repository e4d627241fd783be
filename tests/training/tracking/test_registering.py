"""A run's model in MLflow's registry: pictures in, descriptors out."""

import ast
import base64
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from apdist.config import Config, override
from apdist.data.images import evaluation_image
from apdist.model.pretrained import build_model, load_model, save_model
from apdist.training.events import Ended
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist.training.tracking.following import Follower
from apdist.training.tracking.registering import _copy_code, refuse_unregistrable, register
from apdist_verbs.__main__ import main
from tests.pictures import SIDE
from tests.s3_server import free_ports

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.fixture
def run(small_config: Config, tmp_path: Path) -> Run:
    """Untrained, and at its end."""
    store = {"tracking.enabled": True, "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"}
    found = create_run(override(small_config, store), "glyphs")
    network = build_model(found.config.model)
    model_id = save_model(network, network.state_dict(), network.fit(SIDE, "crop"), found.uri)
    follower = Follower(found)
    follower(Ended(step=6, model_id=model_id, weights="the last"))
    assert follower.close("FINISHED")
    return found


def pictures() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    return [png(pixels) for pixels in noise]


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def expected(run: Run, files: list[bytes]) -> Any:
    """Descriptors as the run makes them."""
    model = load_model(run.uri)
    images = [torch.from_numpy(evaluation_image(file, model.fit)) for file in files]
    with torch.inference_mode():
        return model.network(torch.stack(images)).numpy()


def in_base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


CELLS: dict[str, Callable[[bytes], Any]] = {
    "bytes": lambda file: file,
    "base64": in_base64,
    "pixels": lambda file: np.asarray(Image.open(io.BytesIO(file))),
    "lists": lambda file: np.asarray(Image.open(io.BytesIO(file))).tolist(),
}


def test_versions_take_pictures_in_every_form_and_hold_no_pickle(run: Run, tmp_path: Path) -> None:
    import mlflow
    import pandas as pd

    before = mlflow.get_tracking_uri()
    assert [register(run, "a model"), register(run, "a model")] == [1, 2]
    assert mlflow.get_tracking_uri() == before
    client = mlflow.MlflowClient(run.config.tracking.uri)
    version = client.get_model_version("a model", "2")
    assert version.run_id == run.info["tracking_run_id"]
    assert version.tags["apdist.model_id"] == load_model(run.uri).model_id
    made = client.get_logged_model(version.source.rpartition("/")[2])
    assert made.experiment_id == client.get_run(version.run_id).info.experiment_id
    folder = Path(made.artifact_location.removeprefix("file://"))
    assert folder.is_relative_to(tmp_path)
    assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pyc", ".html")]
    needed = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line and "+" not in line for line in needed)
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert loaded.metadata.signature.outputs.inputs[0].shape == (-1, 16)
    for cells in CELLS.values():
        table = pd.DataFrame({"image": [cells(file) for file in pictures()]})
        np.testing.assert_array_equal(loaded.predict(table), expected(run, pictures()))
    for cell, reason in (("?", "row 1 is a text, but no base64"), (b"?", "row 1 is no image")):
        with pytest.raises(mlflow.MlflowException, match=reason):
            loaded.predict(pd.DataFrame({"image": [pictures()[0], cell]}))


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", "a\nb"])
def test_a_name_that_mlflow_would_not_take_is_refused(run: Run, name: str) -> None:
    with pytest.raises(ValueError, match="expected a name without / and :"):
        refuse_unregistrable(run, name)


def test_a_run_without_a_model_is_refused(run: Run) -> None:
    run.history = []
    with pytest.raises(ValueError, match=r"no model yet, after 0 of 6 steps; train it to its end"):
        refuse_unregistrable(run, "a")


@contextmanager
def served(run: Run, name: str) -> Iterator[str]:
    """The address of a server for a model, in a process that has no apdist but the model's own."""
    (port,) = free_ports(1)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": run.config.tracking.uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    command = ["mlflow", "models", "serve", "-m", name, "--env-manager", "local", "-p", str(port)]
    log = Path(run.uri, "serve.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd="/", stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 100
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_version_is_served_and_answers_with_the_descriptors_of_the_run(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", run.uri, "--register", "served"]) == 0
    assert main(["track", run.uri, "--register", "served"]) == 0
    assert "served: version 2" in capsys.readouterr().out

    def answer(cells: list[Any]) -> Any:
        table = {"dataframe_split": {"columns": ["image"], "data": [[cell] for cell in cells]}}
        request = urllib.request.Request(
            address, json.dumps(table).encode(), {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request, timeout=60))["predictions"]

    files = pictures()
    with served(open_run(run.uri), "models:/served/2") as address:
        for form in ("base64", "lists"):
            cells = [CELLS[form](file) for file in files]
            np.testing.assert_allclose(answer(cells), expected(run, files), atol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as refused:
            answer([in_base64(b"no picture")])
        assert "the picture in row 0 is no image" in refused.value.read().decode()


def test_the_code_that_travels_with_a_model_imports_nothing_else_of_the_package(
    tmp_path: Path,
) -> None:
    _copy_code(tmp_path / "apdist")
    for path in (tmp_path / "apdist").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for_types = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in set(ast.walk(tree)) - for_types:
            if isinstance(node, ast.ImportFrom) and node.module and "apdist" in node.module:
                place = tmp_path.joinpath(*node.module.split("."))
                assert place.is_dir() or place.with_suffix(".py").exists(), (path, node.module)
