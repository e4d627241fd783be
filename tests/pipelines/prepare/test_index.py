"""`apdist prepare index`: shards of others are catalogued where they lie."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.preparing.cataloguing import PARTS
from apdist.data.preparing.claim import claimed_as_it_is
from apdist_verbs.prepare import index
from tests.data.preparing.test_encoding import APDIST, DEADLINE_S, until
from tests.foreign import sample, samples, write_tar
from tests.pipelines.test_cli import refused, run
from tests.places import ROOT
from tests.range_server import range_server


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
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", samples(1))
    large = [file for n in range(10_000) for file in sample(f"k{n}", n % 7, 0)[:2]]
    write_tar(tmp_path / "2.tar", large)
    for number in range(3, 6):
        os.link(tmp_path / "2.tar", tmp_path / f"{number}.tar")
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
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 130
    # Those in hand were not read to their ends: they would be two of the large ones.
    assert re.fullmatch(r"apdist: stopped; [0-3] of 6 shards are read, .* from there\n", err)
    assert not (tmp_path / "index.parquet").exists()
    assert not [path for path in (tmp_path / PARTS).iterdir() if path.name.startswith(".")]


def test_of_two_at_once_one_is_refused_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "a.tar", samples(2))
    command = ["prepare", "index", str(tmp_path)]
    with claimed_as_it_is(str(tmp_path)):
        assert f"{tmp_path} is being written by process" in refused(command, capsys)
    find = index.find_shards

    def slowly(*args: Any) -> list[str]:
        (tmp_path / "index.parquet").write_text("of another process")
        return find(*args)

    monkeypatch.setattr(index, "find_shards", slowly)
    assert "index.parquet exists; add --overwrite" in refused(command, capsys)
    assert (tmp_path / "index.parquet").read_text() == "of another process"
    assert run([*command, "--overwrite"], capsys)[0] == 0
    assert sorted(os.listdir(tmp_path)) == [".apdist-index", "a.tar", "index.parquet"]


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
