"""``apdist audit``: from shards, or a run, to a page, tables and a list of exclusions."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import save_model
from apdist.training.events import Ended
from apdist.training.run_folder.checkpoint import Marker, save_checkpoint
from apdist.training.run_folder.runs import create_run
from apdist_verbs.__main__ import main
from apdist_verbs.auditing.subject import has_learned_from
from tests.audit.faults import Shot, photo, png, rows_of, write_shots
from tests.pictures import encoded
from tests.report.pages import HOSTILE, Page

NAMES = ("a b's", HOSTILE, "青リンゴ")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Shards with a leak, equal bytes and odd names."""
    shots = [png(n, f"{n} é'.png", NAMES[n % 3], "train" if n < 9 else "test") for n in range(12)]
    copy = encoded(photo(9), "JPEG", quality=60)
    shots += [Shot("leak.jpg", copy, NAMES[0]), png(2, "again.png", NAMES[2])]
    write_shots(tmp_path / "my shards", shots)
    return tmp_path / "my shards"


def entries(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


def test_shards_are_audited_without_a_network(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found here"
    assert main(["audit", str(data), "--out", str(out), "--descriptors", "none"]) == 0
    told = capfd.readouterr()
    assert re.search(r"leaks: copies across splits\W+1\b", told.out)
    assert re.search(r"duplicates within a split\W+1\b", told.out)
    assert "not looked at" in told.out
    assert "Labels, classes and outliers were not looked at" in " ".join(told.err.split())
    assert "--data.exclude" in told.out
    assert len(entries(out / "exclude.txt")) == 2
    assert "leak" in entries(out / "exclude.txt")
    page = Page((out / "audit.html").read_text())
    assert len(page.attributes("script")) == 1
    assert "Leaks" in page.words
    assert "Suspicious labels" not in page.words
    found = json.loads((out / "audit.json").read_text())
    assert found["counts"]["leaks"] == found["counts"]["duplicates"] == 1
    with (out / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"leak", "duplicate"}
    assert sum(row["excluded"] == "True" for row in rows) == 2


def test_a_run_is_audited_with_its_model_beside_it(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {
        "data.shards": str(data),
        "data.image_size": 24,
        "model.dim": 6,
        "run.output": str(tmp_path),
        "run.name": "it",
    }
    config = override(Config(), options)
    made = create_run(config, "glyphs")
    torch.manual_seed(0)
    network = DescriptorNet(config.model)
    model_id = save_model(network, network.state_dict(), network.fit(24, "crop"), made.uri)
    made.add(Ended(step=240, model_id=model_id, weights="the last"))
    assert main(["audit", made.uri, "--exclude", "leaks"]) == 0
    told = capfd.readouterr()
    assert "The model has learned from these labels" in " ".join(told.err.split())
    assert "not looked at" not in told.out
    assert "apdist train --config" in told.out
    assert entries(Path(made.uri, "audit", "exclude.txt")) == ["leak"]
    page = Page(Path(made.uri, "audit", "audit.html").read_text())
    assert "Suspicious labels" in page.words


def test_labels_of_other_shards_are_not_said_to_be_learned(data: Path, tmp_path: Path) -> None:
    options = {"data.shards": str(data), "run.output": str(tmp_path), "run.name": "it"}
    run = create_run(override(Config(), options), "glyphs")
    shutil.copytree(data, tmp_path / "copy")
    write_shots(tmp_path / "others", [png(n, f"{n}.png", "a") for n in range(20, 24)])
    own, copy, others = (
        read_catalogue(str(place)) for place in (data, tmp_path / "copy", tmp_path / "others")
    )
    assert has_learned_from(run, own)
    assert not has_learned_from(run, others)
    trained_on = training_images(own, run.config.data, run.config.training.seed).fingerprint()
    save_checkpoint(run.uri, {}, Marker(step=1, config_hash="", data_hash=trained_on))
    assert has_learned_from(run, copy)
    assert not has_learned_from(run, others)


def test_damaged_images_are_named_and_the_rest_is_audited(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_catalogue(str(data))
    row = rows_of(catalogue)["4 é'.png"]
    file = data / str(catalogue.column("shard")[row].as_py())
    damaged = bytearray(file.read_bytes())
    damaged[int(catalogue.column("offset")[row].as_py()) + 50] ^= 255
    file.write_bytes(damaged)
    out = tmp_path / "out"
    assert main(["audit", str(data), "--out", str(out), "--descriptors", "none"]) == 0
    assert "4 é'.png differs from its checksum" in " ".join(capfd.readouterr().err.split())
    assert catalogue.column("key")[row].as_py() in entries(out / "exclude.txt")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--train-split", "trian"], "--train-split 'trian' is not in .*did you mean 'train'?"),
        (["--shards", "x"], "--shards x belongs to a run"),
        (["--out", "my shards/index.parquet"], "is no folder"),
        (["--exclude", "leak"], "--exclude must be one of 'leaks', 'duplicates'"),
        (["--most-shown", "0"], "--most-shown must be at least 1"),
        (["--max-mb", "nan"], "--max-mb must be more than 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    data: Path,
    options: list[str],
    told: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    assert main(["audit", str(data), *options]) == 2
    error = capfd.readouterr().err
    assert error.startswith("apdist: ")
    assert len(error.strip().splitlines()) == 1
    assert re.search(told, error)
    assert not Path("audit").exists()


def test_a_place_without_data_is_refused_in_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "pictures" / "class").mkdir(parents=True)
    for place, told in (
        ("nowhere", "does not exist; expected a folder of shards"),
        ("file", "is a file; expected a folder of shards"),
        ("pictures", "if .* holds pictures, prepare them"),
    ):
        assert main(["audit", str(tmp_path / place)]) == 2
        assert re.search(told, capfd.readouterr().err)
