"""The figures of a report."""

from __future__ import annotations

from dataclasses import replace

import torch

from apdist.report.report import (
    render_report,
)
from apdist.retrieval.metrics import score_labelled
from tests.report.pages import Page, report


def test_queries_left_out_are_told() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    after = score_labelled(torch.eye(5), labels)
    page = Page(render_report(replace(report(), before=None, after=after)))
    assert "4 queries counted, 1 left out" in page.words
