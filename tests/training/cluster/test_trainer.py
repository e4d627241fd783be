"""What the trainer of a job is given."""

import pytest

from apdist.training.cluster import trainer


@pytest.mark.parametrize(
    ("stays_here", "num_hosts", "expected"),
    [(True, 1, False), (True, 2, True), (False, 1, True), (False, 3, True)],
)
def test_notices_are_heard_but_by_the_only_host_of_all(
    stays_here: bool, num_hosts: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "resources_of_nodes", lambda: [{"CPU": 8}] * num_hosts)
    assert trainer.may_lose_a_host(stays_here) == expected
