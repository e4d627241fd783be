"""Names that a file gives lead no verb out of a folder: one line, and nothing is written there."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.config import Config
from apdist.data.catalogue.catalogue import CATALOGUE_NAME, read_catalogue
from apdist.training.run_folder.checkpoint import Marker, _sealed, read_marker
from apdist.training.run_folder.kept_weights import copy_weights, read_weights
from apdist.training.run_folder.runs import create_run, open_run
from apdist_verbs.__main__ import main
from apdist_verbs.extract import _target
from tests.pictures import encoded, picture
from tests.range_server import range_server

HOSTILE = ["../out.tar", "a/../../out.tar", "/x/../out.tar", "a\\..\\out.tar", "a\0.tar", "a\n.tar"]
FEW = ["--training.steps", "1", "--training.batch-size", "32", "--tracking.no-enabled"]


def with_shard(shards: Path, out: Path, name: str) -> Path:
    """A copy of a catalogue whose first shard is called ``name``."""
    out.mkdir(parents=True)
    table = pq.read_table(shards / CATALOGUE_NAME)
    meta: dict[str, Any] = json.loads(table.schema.metadata[b"apdist"])
    first = next(iter(meta["shards"]))
    meta["shards"] = {name if n == first else n: about for n, about in meta["shards"].items()}
    names = [name if n == first else n for n in table["shard"].to_pylist()]
    column = pa.array(names).dictionary_encode()
    place = table.schema.get_field_index("shard")
    table = table.set_column(place, "shard", column)
    about = {"apdist": json.dumps(meta)}
    pq.write_table(table.replace_schema_metadata(about), out / CATALOGUE_NAME)
    for path in shards.glob("*.tar"):
        shutil.copyfile(path, out / path.name)
    return out


@pytest.fixture
def run(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A trained run."""
    monkeypatch.chdir(tmp_path)
    size = ["--data.image-size", "24", "--model.dim", "8", "--run.name", "one"]
    few = [*FEW, *size, "--ray.num-workers", "0", "--data.loader-processes", "0"]
    assert main(["train", "glyphs", "--data.shards", str(shards), *few]) == 0
    return "runs/one"


def below(folder: Path) -> Iterator[str]:
    return (str(path) for path in sorted(folder.rglob("*")))


def test_a_hostile_catalogue_is_refused_by_every_verb(
    run: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = str(with_shard(shards, tmp_path / "deep" / "set", "../../out.tar"))
    before = list(below(tmp_path))
    capsys.readouterr()
    for words in (
        ["train", "glyphs", "--data.shards", there, *FEW],
        ["evaluate", "--run", run, "--shards", there],
        ["extract", "--run", run, "--shards", there, "--out", "tables"],
        ["index", "--run", run, "--shards", there, "--out", "indexed"],
        ["report", "--run", run, "--shards", there],
        ["audit", there],
        ["prepare", "check", there],
        ["prepare", "stats", there],
    ):
        assert main(words) == 2, words
        told = capsys.readouterr().err
        assert "names '../../out.tar', which leads out of its folder" in told, words
        assert told.count("\n") == 1, words
    assert list(below(tmp_path)) == before


@pytest.mark.parametrize("name", HOSTILE)
def test_a_catalogue_with_such_a_shard_is_none(name: str, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="or do not use it"):
        read_catalogue(str(with_shard(shards, tmp_path / "set", name)))


def test_a_catalogue_from_the_web_names_no_file_of_this_machine(
    shards: Path, tmp_path: Path
) -> None:
    with range_server(b"") as web:
        web.others["/set/index.parquet"] = (
            with_shard(shards, tmp_path / "set", "/etc/x.tar") / CATALOGUE_NAME
        ).read_bytes()
        with pytest.raises(ValueError, match="'/etc/x.tar', a file of this machine"):
            read_catalogue(f"{web.address}/set")
    assert read_catalogue(str(tmp_path / "set"))  # as `prepare index --out` writes it


def test_the_table_of_a_shard_lies_in_the_folder_whatever_its_name() -> None:
    assert _target("/out", "a.tar") == "/out/a.parquet"
    first, second = (_target("/out", f"{root}/a.tar") for root in ("/data", "s3://bucket"))
    assert first != second
    assert all(Path(target).parent == Path("/out") for target in (first, second))
    with pytest.raises(ValueError, match="leads out"):
        _target("/out", "../a.tar")


@pytest.mark.parametrize("name", ["../../out", "/out", "0" * 63, "0" * 64 + "/../x"])
def test_a_marker_leads_to_no_weights_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "out.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="no name of kept weights"):
        read_weights(str(tmp_path / "run"), name)
    with pytest.raises(ValueError, match="no name of kept weights"):
        copy_weights(str(tmp_path / "run"), str(tmp_path / "other"), name)


@pytest.mark.parametrize(
    "values",
    [
        {"step": "../x"},
        {"step": -1},
        {"writer": 1.5},
        {"state_sha256": "../../state"},
        {"history": [1]},
        {"weights": {"chosen": 1}},
        {"config_hash": None},
    ],
)
def test_a_marker_of_other_kinds_is_damaged(values: dict[str, Any], tmp_path: Path) -> None:
    good: dict[str, Any] = {"step": 1, "config_hash": "a", "data_hash": "b"}
    (tmp_path / "meta-0.json").write_bytes(_sealed(Marker(**good | values)))
    with pytest.raises(ValueError, match=r"meta-0\.json is damaged"):
        read_marker(str(tmp_path), "meta-0.json")


def test_a_marker_of_many_brackets_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "meta-0.json").write_bytes(b"[" * 100_000)
    with pytest.raises(ValueError, match=r"meta-0\.json is damaged .*nested too deep"):
        read_marker(str(tmp_path), "meta-0.json")


def test_a_file_of_a_run_of_many_brackets_is_damaged(small_config: Config) -> None:
    run = create_run(small_config, "glyphs")
    Path(run.uri, "run.json").write_text('{"a":' + "[" * 100_000)
    with pytest.raises(ValueError, match="is damaged or of another version"):
        open_run(run.uri)


def test_names_and_links_in_a_tar_are_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deep" / "set"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, key in enumerate(("../../one", "/abs/two", "c\\three")):
            for ending, data in (
                ("png", encoded(picture(number, 1))),
                ("cls", str(number % 2).encode()),
            ):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("four.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = {*below(tmp_path), str(folder / CATALOGUE_NAME)}
    assert main(["prepare", "index", "."]) == 2
    assert "a link to '/etc/passwd'" in capsys.readouterr().err
    assert main(["prepare", "index", ".", "--on-corrupt", "skip"]) == 0
    assert main(["prepare", "check", "."]) == 0
    assert {path for path in below(tmp_path) if ".apdist-index" not in path} == before


def test_shards_are_not_indexed_by_a_way_up(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shards)
    name = f"../{shards.name}/train-000000.tar"
    assert main(["prepare", "index", ".", "--shards", name, "--overwrite"]) == 2
    assert "leads out of its folder" in capsys.readouterr().err
