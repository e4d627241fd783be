"""``apdist convert``: a run that other verbs take, or one line and nothing written."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apdist.config import from_json
from apdist.data.images import Fit
from apdist.model.kept_whitenings import find_whitening, whitening_names
from apdist.model.pretrained import build_model, load_model
from apdist.model.published.published import Given
from apdist.model.published.reading import read_published
from apdist_verbs.__main__ import main
from apdist_verbs.describe_options import DescribeOptions
from apdist_verbs.described import find_run, shards_of, trained_model
from tests import published_models as published
from tests.model.published.test_pickles import Calls
from tests.pictures import encoded, picture, write_small_set

OPTIONS = {"arch": "resnet18_rmac", "out_dim": 32, "norm_features": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an AP-GeM checkpoint, a backbone, and a set of shards."""
    folder = tmp_path_factory.mktemp("files")
    pca = {"Landmarks_clean": published.a_pca(32, 8)}
    content = published.dirtorch_content(OPTIONS, out_dim=32, pca=pca)
    (folder / "ap.pt").write_bytes(published.saved(content, zipped=False))
    (folder / "r18.pth").write_bytes(published.saved(published.resnet_state()))
    write_small_set(folder / "shards", num_classes=4, images_per_class=3, num_test=2)
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which ``apdist convert`` refuses them."""
    assert main(["convert", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    return line


def test_a_converted_model_is_measured_indexed_searched_reported_and_trained_on(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, shards = str(tmp_path / "ap"), str(files / "shards")
    size = ["--image-size", "64", "--split", "train"]
    assert main(["convert", str(files / "ap.pt"), out, "--shards", shards, *size]) == 0
    printed = capsys.readouterr().out
    assert "AP-GeM checkpoint of dirtorch: resnet18, gem, p 2.7, linear layer to 32" in printed
    assert "whitenings: Landmarks_clean" in printed
    assert "apdist evaluate --run" in printed
    for verb in ("evaluate", "index", "report"):
        assert main([verb, "--run", out]) == 0
    (tmp_path / "query.png").write_bytes(encoded(picture(1, 1)))
    assert main(["search", str(tmp_path / "query.png"), "--run", out, "-k", "2"]) == 0
    assert main(["runs", str(tmp_path)]) == 0
    assert "converted" in capsys.readouterr().out
    assert (
        f"dirtorch {files / 'ap.pt'}, as published; meas" in (Path(out) / "report.html").read_text()
    )
    config = from_json((Path(out) / "config.json").read_text())
    assert config.data.shards == shards
    assert main(["train", "--resume", out]) == 2
    assert "begin one with its weights: apdist train --config" in capsys.readouterr().err
    network = build_model(config.model).eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(images), load_model(out).network(images))


def test_the_folder_has_the_model_its_whitenings_and_where_they_came_from(
    files: Path, tmp_path: Path
) -> None:
    file, out = files / "ap.pt", tmp_path / "ap"
    assert main(["convert", str(file), str(out), "--whiten-power", "0.5"]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("config.json", "run.json", "metrics.jsonl"),
        *("model.json", "model.safetensors", "whitening"),
    }
    data = file.read_bytes()
    origin = json.loads((out / "run.json").read_text())["origin"]
    assert origin == {
        "file": str(file),
        "sha256": hashlib.sha256(data).hexdigest(),
        "kind": "AP-GeM checkpoint of dirtorch",
        "has_shards": False,
    }
    model = load_model(str(out))
    assert model.fit == Fit(side=1024, resize="shrink")
    assert model.network.traits.std == (1.0, 1.0, 1.0)
    given = read_published(data, "F", Given(whiten_power=0.5))
    images = published.images().float()
    with torch.no_grad():
        assert torch.equal(model.network(images), given.network()(images))
    assert whitening_names(str(out)) == ["Landmarks_clean"]
    found = find_whitening(str(out), "Landmarks_clean", 32)
    assert torch.equal(found.projection, given.whitenings["Landmarks_clean"].projection)
    with pytest.raises(
        ValueError, match="was converted and has no images of its own; give --shards"
    ):
        shards_of(find_run(str(out)), "")
    assert shards_of(find_run(str(out)), "/x") == "/x"


def test_a_run_of_cirtorch_resizes_as_it_does_and_says_how_its_whitening_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"m": np.zeros((512, 1)), "P": np.eye(512)}
    meta = {"architecture": "resnet18", "pooling": "gem", "Lw": {"set": {"ss": parts, "ms": parts}}}
    file, out = tmp_path / "gem.pth", str(tmp_path / "gem")
    file.write_bytes(published.saved(published.cirtorch_content(meta)))
    assert main(["convert", str(file), out]) == 0
    said = capsys.readouterr().out
    assert "whitenings: set, set-ms (with --scales 1 0.7071 0.5 --scale-power 2.7)" in said
    assert load_model(out).fit == Fit(side=1024, resize="shrink", interpolation="lanczos")
    options = DescribeOptions(scales=(1.0, 0.7071, 0.5), whiten="set-ms")
    trained_model(find_run(out), options)
    assert "'set' was learned with scale_power 2.7 (here 1)" in capsys.readouterr().err
    trained_model(find_run(out), dataclasses.replace(options, scale_power=2.7))
    assert not capsys.readouterr().err


def test_what_a_backbone_does_not_say_is_asked_for(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(files / "r18.pth"), str(tmp_path / "r18")
    assert "give --pooling gem" in refused([file, out], capsys)
    assert not list(tmp_path.iterdir())
    own = ["--pooling", "gem", "--gem-p", "2.5", "--resize", "crop", "--image-size", "224"]
    assert main(["convert", file, out, *own]) == 0
    found = load_model(out)
    assert found.fit == Fit(side=224, resize="crop")
    assert found.network.pooling.p.tolist() == [2.5]  # type: ignore[union-attr, operator]


def test_an_out_that_is_there_is_left_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "own").write_text("own")
    (tmp_path / "file").write_text("own")
    for name in ("run", "file"):
        line = refused([str(files / "ap.pt"), str(tmp_path / name)], capsys)
        assert f"{name} exists; choose another OUT" in line
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["own"]


def test_a_full_disk_leaves_nothing_behind(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from apdist.data import storage

    write = storage.write_bytes

    def full(uri: str, data: bytes) -> None:
        if uri.endswith("model.json"):
            raise OSError(28, "No space left on device", uri)
        write(uri, data)

    monkeypatch.setattr("apdist.model.pretrained.storage.write_bytes", full)
    assert "no space left" in refused([str(files / "ap.pt"), str(tmp_path / "out")], capsys)
    assert not list(tmp_path.iterdir())


def no_dict(content: dict[str, Any]) -> Any:
    return [content["epoch"]]


def without_weights(content: dict[str, Any]) -> Any:
    return {"epoch": 3, "optimizer": {}}


def with_code(content: dict[str, Any]) -> Any:
    return content | {"also": Calls(eval, "1")}


def of_another_kind(content: dict[str, Any]) -> Any:
    return content | {"state_dict": {"w": np.ones(2)}}


def named(content: dict[str, Any]) -> Any:
    return {"state_dict": {"encoder.weight": torch.ones(2)}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_dict, "bad.pt holds a list; expected an AP-GeM checkpoint"),
        (without_weights, "bad.pt holds epoch, optimizer; expected an AP-GeM"),
        (
            with_code,
            "bad.pt asks for builtins.eval; only tensors, numpy arrays and PCA are admitted",
        ),
        (of_another_kind, "bad.pt has 'w' in its state_dict"),
        (named, "bad.pt holds no ResNet by torchvision's names"),
    ],
)
def test_another_file_is_refused_in_one_line(
    change: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"epoch": 3, "model_options": OPTIONS, "state_dict": {"w": torch.ones(2)}}
    bad = tmp_path / "bad.pt"
    bad.write_bytes(published.saved(change(content)))
    assert message in refused([str(bad), str(tmp_path / "out")], capsys)
    assert list(tmp_path.iterdir()) == [bad]


def test_files_that_cannot_be_read_and_options_that_cannot_be_are_refused(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = str(tmp_path / "out"), str(files / "ap.pt")
    cut = tmp_path / "cut.pt"
    cut.write_bytes((files / "ap.pt").read_bytes()[:-1000])
    for arguments, message in (
        ([str(cut), out], "cut.pt is no checkpoint of torch, or is cut or damaged (it ends within"),
        ([str(tmp_path / "none.pt"), out], "none.pt"),
        ([str(tmp_path), out], str(tmp_path)),
        ([file], "needs OUT"),
        ([file, out, "--pooling", "gem"], "tells its pooling itself; leave --pooling gem out"),
        ([file, out, "--pixel-mean", "0", "0", "0"], "has its own pixel statistics; leave"),
        ([file, out, "--whiten-power", "2"], "--whiten-power must lie in [0, 1]"),
        ([file, out, "--image-size", "1"], "data.image_size must lie in"),
        ([file, out, "--backbone", "resnet50"], "says that it is resnet18; leave --backbone"),
    ):
        assert message in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == [cut]
