"""The folder of MLflow describes as the run does; nothing is unpickled."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from apdist.export.mlflow_folder import MlflowModel, write_mlflow
from apdist.export.parity import drawn_images, parity_of
from apdist.model.pretrained import TrainedModel
from apdist.training.run_folder.runs import Run

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations


@pytest.mark.slow
def test_a_folder_takes_pictures(run: Run, model: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    write_mlflow(run, folder)
    assert parity_of(MlflowModel(folder), model, drawn_images(2, 30), "pictures").of_files == 1
    assert yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert not list(folder.rglob("*.pkl"))


@pytest.mark.slow
def test_what_mlflow_advises_writers_of_models_is_not_shown(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from apdist.export.mlflow_folder import MlflowModel, write_mlflow; "
        "from apdist.training.run_folder.runs import open_run; from pathlib import Path; "
        "write_mlflow(open_run(sys.argv[1]), Path(sys.argv[2])); MlflowModel(Path(sys.argv[2]))"
    )
    words = [sys.executable, "-c", code, run.uri, str(tmp_path / "mlflow")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "type hints" not in done.stderr
