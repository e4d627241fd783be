"""Both ends of the mailbox."""

import logging

import pytest

from apdist.training.events import FromTrial, Started, Stopping, Warned
from apdist.training.mailbox import Cancelled, Mailbox, WarningForwarder


def test_events_are_taken_once_and_in_order() -> None:
    mailbox = Mailbox()
    for text in "abc":
        mailbox.post(Warned(text=text))
    assert [event.text for event in mailbox.take()] == ["a", "b", "c"]
    assert mailbox.take() == []


@pytest.mark.parametrize(
    "posted", [{"kind": "step"}, None, Started, FromTrial(trial="a", event={"kind": "step"})]
)
def test_what_is_no_event_is_refused_where_it_is_posted(posted: object) -> None:
    mailbox = Mailbox()
    with pytest.raises(TypeError, match="expected an event of apdist.training.events, got"):
        mailbox.post(posted)
    assert mailbox.take() == []


def test_an_event_of_a_trial_is_taken_with_the_trials_name() -> None:
    mailbox = Mailbox()
    mailbox.post(FromTrial(trial="a", event=Stopping()))
    assert [told.trial for told in mailbox.take()] == ["a"]


def test_a_worker_learns_of_the_wish_to_stop_and_of_the_end_of_the_driver() -> None:
    mailbox = Mailbox()
    assert not mailbox.stop_requested()
    mailbox.request_stop()
    assert mailbox.stop_requested()
    with mailbox.cancelled_at_the_end():
        pass
    with pytest.raises(Cancelled):
        mailbox.stop_requested()


def test_warnings_of_workers_reach_the_driver() -> None:
    mailbox = Mailbox()
    logger = logging.getLogger("apdist.some.room")
    handler = WarningForwarder(mailbox, rank=3)
    logger.addHandler(handler)
    try:
        logger.warning("%d images replaced", 2)
        logger.info("nothing")
    finally:
        logger.removeHandler(handler)
    assert mailbox.take() == [Warned(text="worker 3: 2 images replaced")]
