"""`apdist prepare csv|parquet|catalogue|check|stats` as a person uses them."""

import re
import shlex
from pathlib import Path

import pytest

from apdist_verbs import prepare
from tests.pictures import encoded, picture
from tests.pipelines.test_cli import refused
from tests.places import ROOT


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["csv"], "`apdist prepare csv` needs TABLE and --out STR"),
        (["csv", "--out", "x"], "`apdist prepare csv` needs TABLE"),
        (["csv", "nothing.csv", "--out", "x"], "nothing.csv cannot be read"),
        (["csv", "empty.csv", "--out", "x"], "empty.csv has no row"),
        (["csv", "list.csv", "--out", "x", "--split-file", "empty.csv"], "columns path and split"),
        (["csv", "list.csv", "--out", "x"], "all pictures are of one class, 'a'"),
        (["csv", "bad.csv", "--out", "x"], "bad.csv line 3: z.png does not exist; check the path"),
        (["parquet", "list.csv", "--out", "x"], "no Parquet file; use `apdist prepare csv`"),
        (
            ["csv", "s3://b/list.csv", "--out", "x"],
            "this machine, no address, got s3://b/list.csv;",
        ),
        (
            ["csv", "list.csv", "--out", "x", "--split-file", "f", "--split-by-class", "0.5"],
            "--split-file f and --split-by-class 0.5 are two ways",
        ),
        (
            ["csv", "split.csv", "--out", "x", "--split-by-class", "0.5"],
            "--split-by-class 0.5 has no effect: the splits are in the column 'split'; leave it",
        ),
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
    (tmp_path / "split.csv").write_text("path,label,split\n0.png,a,train\n")
    (tmp_path / "bad.csv").write_text("path,label\n0.png,a\nz.png,a\n")
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(["prepare", *command], capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_commands_of_the_manual_can_be_typed() -> None:
    for manual, verbs in (("data", prepare.VERBS), ("datasets", prepare.SETS)):
        text = (ROOT / "docs" / f"{manual}.md").read_text()
        commands = re.findall(r"^apdist prepare (\w+) ?(.*?) *(?:#.*)?$", text, re.MULTILINE)
        assert {verb for verb, _ in commands} == set(verbs)
        for verb, arguments in commands:
            assert prepare.read_options([verb, *shlex.split(arguments)])
