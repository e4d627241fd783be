"""The figures of a report."""

from __future__ import annotations

from dataclasses import replace

import torch

from apdist.retrieval.metrics import score_labelled
from tests.report.pages import Page, rendered, report


def test_queries_left_out_are_told() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    after = score_labelled(torch.eye(5), labels)
    page = Page(rendered(replace(report(), before=None, after=after)))
    assert "4 queries counted, 1 left out" in page.words


def test_a_figure_that_fell_is_said_to_by_sign_and_word() -> None:
    shown = report()
    page = Page(rendered(replace(shown, before=shown.after, after=shown.before)))
    assert shown.before is not None
    fall = shown.before.mean_average_precision - shown.after.mean_average_precision
    was = shown.after.mean_average_precision
    assert f"▼ fell from {was:.3f}, \N{MINUS SIGN}{-fall:.3f}" in page.words
    assert f"\N{MINUS SIGN}{-fall:.4f} fell" in page.words
