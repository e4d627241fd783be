"""The table and the file of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from apdist.figures import EVALUATION
from apdist.retrieval.metrics import score_labelled
from apdist.retrieval.protocols.scores import JudgedScores
from apdist_verbs.measure.results import Measured, judged_lines, lines_of, show, write


def judged(part: str) -> JudgedScores:
    figures = {"map_at_100": 0.25, "map": 0.5}
    return JudgedScores(
        part=part,
        figures=figures,
        of_queries=torch.zeros(3),
        num_queries=3,
        num_queries_without_positive=1,
    )


def test_figures_come_in_the_order_of_the_protocol_each_with_its_convention() -> None:
    lines = judged_lines([judged("easy"), judged("hard")])
    assert [(line.part, line.label, line.text) for line in lines] == [
        ("easy", "mAP@100", "0.2500"),
        ("easy", "mAP", "0.5000"),
        ("hard", "mAP@100", "0.2500"),
        ("hard", "mAP", "0.5000"),
    ]
    assert lines[0].convention.endswith("over min(100, positives)")
    assert [line.part for line in judged_lines([judged("all")])] == ["", ""]


def test_the_table_says_what_is_counted_and_what_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    measured = Measured(
        protocol="own",
        title="run: 3 queries",
        lines=judged_lines([judged("hard")]),
        num_queries=3,
        num_queries_without_positive={"hard": 1},
        facts={"data": "ä"},
        notes=["a note"],
    )
    show(measured)
    out = capsys.readouterr().out
    assert "1 query without a hard positive: left out" in out
    assert "a note" in out
    assert "equal scores count against the query" in out
    assert "(sum rule)" in out
    write(measured, str(tmp_path / "found.json"))
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert content["data"] == "ä"
    assert content["figures"][1]["value"] == 0.5
    assert content["figures"][1]["convention"]


def test_what_was_measured_before_training_stands_beside_it() -> None:
    scores = score_labelled(torch.eye(4).repeat_interleave(3, 0), torch.arange(12) // 3)
    lines = lines_of(EVALUATION, scores, scores)
    assert all(line.before == line.text == "1.0000" for line in lines)
