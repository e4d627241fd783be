"""Which events a run keeps, and their lines."""

import pytest

from apdist.training.history import Kept, from_lines, to_lines
from tests.training.test_events import OLD_LINES, SAMPLES

KEPT = [event for event in SAMPLES if isinstance(event, Kept)]


def test_what_is_kept_comes_back_from_its_lines() -> None:
    assert [event.kind for event in KEPT] == ["step", "evaluation", "similarities", "end"]
    assert from_lines(to_lines(KEPT)) == KEPT


def test_the_lines_of_an_earlier_run_stay_as_they_were() -> None:
    text = "".join(f"{line}\n" for line in OLD_LINES)
    assert to_lines(from_lines(text)) == text


def test_a_line_that_was_cut_off_is_passed_over() -> None:
    assert from_lines(to_lines(KEPT) + '{"kind": "st') == KEPT


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "merged", "step": 1}', "expected an event of kind"),
        ('{"kind": "warning", "text": "slow"}', "the history has no event 'warning'"),
        ('{"kind": "step", "step": 1, "entropy": 0.5}', "has no figure 'entropy'"),
        ("{step}", "Expecting property name"),
    ],
)
def test_a_line_of_something_else_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_lines(f"{OLD_LINES[0]}\n{line}\n")
