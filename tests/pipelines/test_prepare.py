"""`apdist prepare csv|parquet|catalogue|check|stats` as a person uses them."""

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.reader import ImageReader
from apdist.data.preparing.cataloguing import PARTS
from apdist_verbs import prepare
from apdist_verbs.terminal.options import parse
from tests.data.preparing.test_encoding import APDIST, DEADLINE_S, until
from tests.foreign import sample, samples, write_tar
from tests.pictures import encoded, picture, write_folder, write_small_set
from tests.pipelines.test_cli import refused, run
from tests.places import ROOT
from tests.range_server import range_server
from tests.s3_server import s3_server


def test_a_csv_becomes_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "images", {"a": 3, "b": 3})
    lines = [f"{c}/{n}.png,{c},{'train' if n else 'test'}" for c in "ab" for n in range(3)]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    out = str(tmp_path / "shards")
    command = ["prepare", "csv", str(tmp_path / "list.csv"), "--out", out]
    assert "list.csv line 2" in refused(command, capsys)
    code, said, _ = run([*command, "--root", str(tmp_path / "images"), "--max-side", "12"], capsys)
    assert code == 0
    assert "6 images in 2 shards" in said
    catalogue = read_catalogue(out)
    assert catalogue.splits() == {"train": 4, "test": 2}
    assert set(catalogue.table["width"].to_pylist()) == {12}


def test_several_parquet_files_become_shards_split_by_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {label: [encoded(picture(label, n)) for n in range(4)] for label in range(4)}
    for name, labels in (("x", (0, 1)), ("y", (2, 3))):
        rows = [(data, f"class {label}") for label in labels for data in images[label]]
        table = pa.table({"jpg": [r[0] for r in rows], "what": [r[1] for r in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    command = ["prepare", "parquet", str(tmp_path / "x.parquet"), str(tmp_path / "y.parquet")]
    options = ["--image-column", "jpg", "--label-column", "what", "--split-by-class", "0.5"]
    out = tmp_path / "shards"
    code, said, err = run([*command, *options, "--out", str(out)], capsys)
    assert code == 0, err
    assert "16 images in 2 shards" in said
    catalogue = read_catalogue(str(out))
    assert catalogue.splits() == {"train": 8, "test": 8}
    reader = ImageReader(catalogue)
    for row, cells in enumerate(catalogue.table.select(["label", "label_name"]).to_pylist()):
        assert cells["label_name"] == f"class {cells['label']}"
        assert reader.read_one(row) in images[cells["label"]]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["csv"], "`apdist prepare csv` needs TABLE and --out STR"),
        (["csv", "--out", "x"], "`apdist prepare csv` needs TABLE"),
        (["csv", "nothing.csv", "--out", "x"], "nothing.csv cannot be read"),
        (["csv", "empty.csv", "--out", "x"], "empty.csv has no row"),
        (["csv", "list.csv", "--out", "x", "--split-file", "empty.csv"], "columns path and split"),
        (["csv", "list.csv", "--out", "x"], "--split-by-class 0.8 leaves"),
        (["csv", "bad.csv", "--out", "x"], "bad.csv line 3: z.png does not exist; check the path"),
        (["parquet", "list.csv", "--out", "x"], "list.csv cannot be read"),
        (["index"], "`apdist prepare index` needs URI"),
        (["index", "nowhere"], "no .tar file lies under nowhere; check the path"),
        (["index", "https://host/data"], "--out is needed"),
        (["index", "x", "--processes", "0"], "--processes must be at least 1"),
        (["index", "x", "--label", "json"], "--label must be cls or json:FIELD or key:PATTERN"),
        (["index", "x/a.tar", "--shards", "b.tar"], "not both"),
        (["index", "x", "--shards", "a-{0..1.tar"], "without its other half"),
        (["index", "x", "--shards", "a-{0..1}.tar"], ".tar does not exist; check the path"),
        (["index", "x", "--processes", "1000000"], "cores, at most"),
        (["glyphs", "--image-size", "0"], "--image-size must be from 8 to 2,048, got 0"),
        (["glyphs", "--image-size", "100000"], "--image-size must be from 8 to 2,048, got 100000"),
        (["glyphs", "--images-per-glyph", "-1"], "--images-per-glyph must be from 0 to 1,000"),
        (["glyphs", "--images-per-glyph", "9999"], "--images-per-glyph must be from 0 to 1,000"),
        (["glyphs", "--processes", "0"], "--processes must be at least 1"),
        (["check", "nowhere"], "index.parquet does not exist"),
        (["check", "x", "--threads", "0"], "--threads must be at least 1"),
        (["stats", "nowhere"], "index.parquet does not exist"),
        (["stats", "x", "--group-size", "1"], "--group-size must be at least 2, got 1"),
        (["stats", "x", "--batch-size", "7"], "--batch-size must be even"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    command: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(encoded(picture(0, 0)))
    (tmp_path / "empty.csv").write_text("path,label\n")
    (tmp_path / "list.csv").write_text("path,label\n0.png,a\n")
    (tmp_path / "bad.csv").write_text("path,label\n0.png,a\nz.png,a\n")
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(["prepare", *command], capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def mess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have them, with seven damaged pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    images = tmp_path / "images"
    write_folder(images, {"a": 3, "b": 3, "c": 2})
    for number in range(7):
        (images / "a" / f"bad\n{number}.jpg").touch()
    for name in ("a/notes.txt", "b/Thumbs.db", "b/.DS_Store", "labels.csv"):
        (images / name).write_text("x")
    (images / "b" / "again.png").symlink_to("../c/0.png")
    (images / "c" / "up").symlink_to("..")
    floats = Image.fromarray(np.full((4, 4), 3, np.float32))
    (images / "c" / "float.tif").write_bytes(encoded(floats, "TIFF"))
    return images


def test_damaged_pictures_are_named_at_once_and_in_a_file_where_they_are_many(
    mess: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "folder", "images", "--out", "data/mine", "--split-by-class", "0.5"]
    message = refused(command, capsys)
    assert "no readable image in 7 of 17 files, all named in data/mine-refused.tsv" in message
    assert r"a/bad\n0.jpg is empty (0 bytes); a/bad\n1.jpg is empty" in message
    assert message.count("is empty") == 5
    assert "remove them, or use --on-corrupt skip" in message
    listed = Path("data/mine-refused.tsv").read_text().splitlines()
    assert listed == [f"a/bad\\n{number}.jpg\tis empty (0 bytes)" for number in range(7)]
    assert not Path("data/mine").exists() or not list(Path("data/mine").iterdir())


def test_what_was_passed_over_or_changed_is_in_the_closing_table(
    mess: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "folder", "images", "--out", "mine", "--split-by-class", "0.5"]
    code, said, warned = run([*command, "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "mine: 10 images" in said
    assert "skipped 7 files without a readable image, all named in mine-refused.tsv" in warned
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    assert sorted(rows) == [
        ["damaged picture: skipped", "7", r"a/bad\n0.jpg"],
        ["float picture with values outside of 0 to 1: clipped", "1", "c/float.tif"],
        ["hidden: its name begins with a dot", "1", "b/.DS_Store"],
        ["link to a folder that it lies in", "1", "c/up"],
        ["no picture: .csv", "1", "labels.csv"],
        ["no picture: .db", "1", "b/Thumbs.db"],
        ["no picture: .txt", "1", "a/notes.txt"],
        ["same bytes as an image of another class", "1", rows[-1][2]],
    ]
    assert set(rows[-1][2].split(" = ")) == {"b/again.png", "c/0.png"}


def test_a_clean_folder_has_no_closing_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    command = ["prepare", "folder", str(tmp_path / "images"), "--split-by-class", "0.5"]
    _, said, warned = run([*command, "--out", str(tmp_path / "out")], capsys)
    assert "to look at" not in said
    assert not warned


def test_folders_of_splits_are_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_folder(tmp_path / "images" / split, {"a": 2, "b": 2})
    command = ["prepare", "folder", "images", "--out"]
    code, said, _ = run([*command, "mine"], capsys)
    assert code == 0
    assert "images holds folders of splits (train, val) above the classes" in said
    catalogue = read_catalogue("mine")
    assert catalogue.splits() == {"train": 4, "val": 4}
    assert set(catalogue.labels.tolist()) == {0, 1}
    Path("s.csv").write_text("path,split\ntrain/a/0.png,x\nval/b/1.png,y\n")
    run([*command, "other", "--split-file", "s.csv"], capsys)
    assert read_catalogue("other").splits() == {"x": 1, "y": 1}


def test_parquet_tables_of_one_name_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        Path(name).mkdir()
        images = [encoded(picture(label, number)) for label in range(2)]
        pq.write_table(pa.table({"image": images, "label": ["x", "y"]}), f"{name}/part-0.parquet")
    tables = ["a/part-0.parquet", "b/part-0.parquet"]
    command = ["prepare", "parquet", *tables, "--out", "out", "--split-by-class", "0.5"]
    code, _, err = run(command, capsys)
    assert code == 0, err
    found = read_catalogue("out").table["source"].to_pylist()
    assert sorted(found) == [f"{name}/part-0/{row}" for name in "ab" for row in (1, 2)]


def test_faults_of_shards_are_named_at_once_and_what_is_no_sample_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    bad = [(f"bad{number}.{e}", b"") for number in range(6) for e in ("jpg", "cls")]
    write_tar(tmp_path / "x.tar" / "a.tar", [*samples(2), *bad, ("Thumbs.db", b"x")])
    message = refused(["prepare", "index", "x.tar"], capsys)
    assert "6 samples or shards' ends cannot be used, all named in x.tar-refused.tsv" in message
    assert len(Path("x.tar-refused.tsv").read_text().splitlines()) == 6
    code, said, warned = run(["prepare", "index", "x.tar", "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "6 images in 1 shard" in said
    assert "skipped 6 samples or shards' ends: of no use, all named in" in warned
    assert re.search(r"no part of a sample: .db +│ +1 │ a.tar: Thumbs.db", said)
    assert re.search(r"sample or shard's end of no use: skipped +│ +6 │ x.tar/a.tar: sample", said)


def test_foreign_shards_are_catalogued_checked_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for number in range(2):
        write_tar(tmp_path / f"part-{number}.tar", samples(4, 5))
    command = ["prepare", "index", ".", "--names", "txt"]
    code, said, warned = run(command, capsys)
    assert code == 0
    assert "40 images in 2 shards" in said
    assert "train: 40 images of 4 classes" in said
    assert "20 keys in several shards" in warned
    assert "add --overwrite" in refused(command, capsys)
    code, said, _ = run([*command, "--overwrite"], capsys)
    assert (code, "2 shards as an earlier run has read them" in said) == (0, True)

    assert run(["prepare", "check", ".", "--deep"], capsys)[0] == 0
    code, said, _ = run(["prepare", "stats", ".", "--batch-size", "8"], capsys)
    assert code == 0
    assert re.search(r"train\D+40\D+4\D+0\D+10\D+10\D+10.0\D+10\D+2 ", said)
    assert re.search(r"8-15  #+ 4", said)
    assert re.search(r"an epoch is \d batches of 8 in groups of up to 4: \d+ of 40 images", said)
    code, said, _ = run(["prepare", "stats", "."], capsys)
    assert code == 0
    assert "no epoch: training.batch_size 256 cannot be filled" in said  # of the preset `folder`
    _, said, _ = run(["prepare", "stats", ".", "--preset", "glyphs"], capsys)
    assert "no epoch: training.batch_size 512 cannot be filled" in said

    write_tar(tmp_path / "part-0.tar", samples(4, 5)[:-4])
    (tmp_path / "part-1.tar").rename(tmp_path / "part-2.tar")
    code, said, warned = run(["prepare", "check", "."], capsys)
    assert code == 1
    assert "size changed from" in said
    assert "missing, with 20 images" in said
    assert "2 differences in 2 of 2 shards" in said
    assert "1 shard not in the catalogue, the first part-2.tar" in warned


def test_a_broken_sample_is_named_or_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "a.tar", [*samples(2), ("bad.jpg", b""), ("bad.cls", b"1")])
    command = ["prepare", "index", str(tmp_path / "a.tar")]
    message = refused(command, capsys)
    assert re.search(r"a.tar: sample 'bad' at byte \d+ is empty \(0 bytes\); mend it", message)
    assert not (tmp_path / "index.parquet").exists()
    code, _, warned = run([*command, "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "skipped 1 sample or shard's end: of no use" in warned


def test_ctrl_c_ends_cataloguing_and_what_was_read_is_kept(tmp_path: Path) -> None:
    large = [file for n in range(4000) for file in sample(f"k{n}", n % 7, 0)[:2]]
    for number in range(6):
        write_tar(tmp_path / f"{number}.tar", samples(1) if number < 2 else large)
    command = ["prepare", "index", str(tmp_path), "--processes", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", APDIST, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            until(lambda: (tmp_path / PARTS).exists() and any((tmp_path / PARTS).iterdir()))
            stopped = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert time.monotonic() - stopped < 4, "the shards in hand were read to their ends"
    assert process.returncode == 130
    assert re.fullmatch(r"apdist: stopped; \d of 6 shards are read, .* from there\n", err)
    assert not (tmp_path / "index.parquet").exists()
    assert not [path for path in (tmp_path / PARTS).iterdir() if path.name.startswith(".")]


def test_sigterm_ends_preparing_like_ctrl_c(tmp_path: Path) -> None:
    command = ["prepare", "glyphs", "--out", str(tmp_path / "out"), "--processes", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", APDIST, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(lambda: (tmp_path / "out").exists() and any((tmp_path / "out").iterdir()))
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.fullmatch(r"apdist: stopped; nothing was written to \S+\n", err)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.s3
@pytest.mark.timeout(180)
def test_shards_in_object_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with s3_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        write_small_set("s3://apdist/ours", shard_bytes=20_000)
        assert run(["prepare", "check", "s3://apdist/ours", "--deep"], capsys)[0] == 0
        for number in range(2):
            write_tar(tmp_path / f"{number}.tar", samples(3))
            where = f"foreign/{number}.tar"
            server.client().upload_file(str(tmp_path / f"{number}.tar"), server.bucket, where)
        code, said, err = run(["prepare", "index", "s3://apdist/foreign"], capsys)
        assert code == 0, err
        assert "18 images in 2 shards" in said
        catalogue = read_catalogue("s3://apdist/foreign")
        reader = ImageReader(catalogue)
        for row in range(len(catalogue)):
            reader.request(np.array([row])).check(0, reader.read_one(row))
        changed = bytearray((tmp_path / "1.tar").read_bytes())
        changed[catalogue.table["offset"][10].as_py() + 5] ^= 1
        server.client().put_object(Bucket=server.bucket, Key="foreign/1.tar", Body=bytes(changed))
        code, said, _ = run(["prepare", "check", "s3://apdist/foreign"], capsys)
        assert (code, "replaced: its ETag was" in said) == (1, True)
        code, said, _ = run(["prepare", "check", "s3://apdist/foreign", "--deep"], capsys)
        assert (code, "2 differences in 1 of 2 shards" in said) == (1, True)


def test_shards_on_a_web_server_are_catalogued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_tar(tmp_path / "a.tar", samples(3))
    with range_server((tmp_path / "a.tar").read_bytes()) as server:
        root = server.address
        out = str(tmp_path / "index")
        command = ["prepare", "index", root, "--shards", "{file,}.tar", "--out", out]
        assert ".tar: no such file" in refused(command, capsys)
        command = ["prepare", "index", f"{root}/file.tar", "--out", out]
        code, said, err = run(command, capsys)
        assert code == 0, err
        assert "9 images in 1 shard\n" in said
        assert read_catalogue(out).shard_uri(0) == f"{root}/file.tar"
        assert run(["prepare", "check", out, "--deep"], capsys)[0] == 0
        at = read_catalogue(out).column("offset")[1].as_py() + 9
        server.data = server.data[:at] + b"?" + server.data[at + 1 :]
        server.etag = '"2"'
        code, said, _ = run(["prepare", "check", out, "--deep"], capsys)
        assert code == 1
        assert "replaced: its ETag was" in said
        assert "its checksum differs" in said


def test_the_commands_of_the_manual_can_be_typed() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    commands = re.findall(r"^apdist prepare (\w+) ?(.*?) *(?:#.*)?$", text, re.MULTILINE)
    assert {verb for verb, _ in commands} == set(prepare.VERBS)
    for verb, arguments in commands:
        file, kind, _ = prepare.VERBS[verb]
        options = getattr(importlib.import_module(f"apdist_verbs.prepare.{file}"), kind)
        assert parse(options, shlex.split(arguments), f"apdist prepare {verb}")
