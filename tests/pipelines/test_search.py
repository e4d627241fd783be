"""`apdist search` with many queries: what it finds, writes and says."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from apdist_verbs.__main__ import main
from apdist_verbs.search import Options
from apdist_verbs.terminal.options import check
from tests.pictures import encoded, picture
from tests.places import ROOT
from tests.retrieval.querying.conftest import Indexed, indexed

__all__ = ["indexed"]


@pytest.fixture
def here(indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder of three queries, one of them damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "my queries").mkdir()
    for number in (0, 1):
        data = indexed.encoded(6 * number)
        (tmp_path / "my queries" / f"ä {number}.png").write_bytes(data)
    (tmp_path / "my queries" / "broken.jpg").write_bytes(encoded(picture(0, 0), "JPEG")[:300])
    return tmp_path


def test_output_for_a_program_is_clean_and_files_have_the_same(
    indexed: Indexed, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "my queries", "gone.png", "--run", indexed.run, "-k", "2"]
    assert main([*words, "--csv", "-", "--json", "out.json", "--html", "sheet.html"]) == 0
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert [(row["query"], row["rank"]) for row in rows] == [
        (f"my queries/ä {number}.png", rank) for number in (0, 1) for rank in "12"
    ]
    assert "2 of 4 queries could not be read" in told.err
    assert "my queries/broken.jpg cannot be decoded" in told.err
    assert "gone.png does not exist" in told.err
    listed = json.loads((here / "out.json").read_text())
    assert [(r["query"], len(r.get("results", []))) for r in listed if "results" in r] == [
        ("my queries/ä 0.png", 2),
        ("my queries/ä 1.png", 2),
    ]
    assert [one["key"] for r in listed for one in r.get("results", [])] == [r["key"] for r in rows]
    page = (here / "sheet.html").read_text()
    assert page.count('<article class="query') == 2
    assert "no picture" not in page
    assert main([*words, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_keys_filters_thresholds_and_several_indexes(
    indexed: Indexed, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = list(indexed.catalogue.column("key").to_pylist())
    own = f"{indexed.run}/index"
    words = ["search", "--run", indexed.run, "--csv", "-"]

    def found(*more: str) -> list[dict[str, str]]:
        assert main([*words, *more]) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    page = here / "sheet.html"
    more = ("--html", str(page))
    rows = found("--key", keys[0], "--key", keys[7], "-k", "29", "my queries/ä 1.png", *more)
    asked = re.findall(r'class="asked">\n<div class="picture p(\d+)"', page.read_text())
    assert len(set(asked)) == 3
    assert len(rows) == 3 * 29
    for key in (keys[0], keys[7]):
        assert key not in [row["key"] for row in rows if row["query"] == key]
    where = ["--where", "label_name=class 1", "--where", "label in 1,2"]
    rows = found(*where, "my queries/ä 1.png")
    assert {row["label_name"] for row in rows} == {"class 1"}
    assert len(rows) == 6
    rows = found("my queries/ä 1.png", "--near-duplicates", "0.99999", "--index", own)
    assert [row["key"] for row in rows] == [keys[6]]
    rows = found("my queries/ä 1.png", "--index", own, "--index", f"{own}/", "-k", "2")
    assert [row["index"] for row in rows] == [own, f"{own}/"]
    assert main(["search", "--index", own, "my queries/ä 1.png"]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert said.endswith(f"next, search in a browser: apdist serve --index {own}")


def test_commands_of_the_manual_are_understood() -> None:
    text = (ROOT / "docs" / "search.md").read_text()
    lines = re.findall(r"^apdist search ([^|#\n]+)", text, re.MULTILINE)
    assert len(lines) > 7
    for line in lines:
        check(Options, shlex.split(line), "apdist search")


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    indexed: Indexed, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "list.csv").write_text("file\ngone.png\nmy queries/broken.jpg\n")
    before = sorted(here.rglob("*"))
    for words, message in (
        (["list.csv"], "list.csv has no column 'path'; it has file: name one with --column"),
        (["list.csv", "--column", "file"], "none of the 2 query images could be read; the first"),
        (["my queries/broken.jpg"], "the query image my queries/broken.jpg cannot be decoded"),
        (["my queries", "--where", "size"], "'size' is no condition"),
        (["my queries", "--where", "colour=1"], "no column 'colour'"),
        (["--key", "nothing"], "no image of the key 'nothing'"),
        (["my queries", "--index", "my queries"], "my queries is no index"),
    ):
        argv = ["search", *words, "--run", indexed.run, "--json", "x.json", "--html", "x.html"]
        assert main(argv) == 2
        lines = [li for li in capsys.readouterr().err.splitlines() if li.startswith("apdist:")]
        assert len(lines) == 1
        assert message in lines[0]
        assert sorted(here.rglob("*")) == before
