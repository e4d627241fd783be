"""Findings as rows of a table, as CSV and as JSON."""

import csv
import io
import json
from pathlib import Path

from apdist.audit.findings import COLUMNS, as_csv, as_json, counts, rows_of
from tests.audit.test_exclusions import some_findings


def test_every_image_of_every_finding_has_a_row(tmp_path: Path) -> None:
    findings, catalogue, rows = some_findings(tmp_path / "s")
    lines = rows_of(findings, catalogue, frozenset({rows["copy"]}))
    told = [(line["kind"], line["group"], line["key"]) for line in lines]
    assert told == [
        ("leak", 0, "measured"),
        ("leak", 0, "leaked"),
        ("duplicate", 1, "kept"),
        ("duplicate", 1, "copy"),
        ("duplicate", 1, "# odd"),
        ("label", 0, "doubted"),
        ("label", 1, "copy"),
        ("label", 2, "measured"),
        ("outlier", 0, "stray"),
        ("damaged", 0, "damaged"),
    ]
    assert {line["key"] for line in lines if line["excluded"]} == {"copy"}
    assert lines[0]["split"] == "test"
    read = list(csv.DictReader(io.StringIO(as_csv(lines).decode())))
    assert [row["key"] for row in read] == [line["key"] for line in lines]
    assert tuple(read[0]) == COLUMNS
    whole = json.loads(as_json(findings, lines, {"images": 9}))
    assert whole["images"] == 9
    assert whole["counts"] == counts(findings)
    assert whole["counts"]["leaks"] == whole["counts"]["duplicates"] == 1
    assert len(whole["findings"]) == len(lines)
