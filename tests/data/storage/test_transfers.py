"""Counters of this process."""

from apdist.data.storage.transfers import Counters, count, counters


def test_what_was_counted_since_a_snapshot_is_told_by_name() -> None:
    before = counters()
    count(requests=2, bytes_read=100)
    count(requests=1, retries=1)
    assert counters().since(before) == Counters(requests=3, retries=1, bytes_read=100)
