"""What the trainer of a job is given."""

from dataclasses import replace

import pytest

from apdist.config import Config, override
from apdist.training.cluster import elastic, trainer
from apdist.training.job import Job


@pytest.mark.parametrize(
    ("stays_here", "num_hosts", "expected"),
    [(True, 1, False), (True, 2, True), (False, 1, True), (False, 3, True)],
)
def test_notices_are_heard_but_by_the_only_host_of_all(
    stays_here: bool, num_hosts: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "resources_of_nodes", lambda: [{"CPU": 8}] * num_hosts)
    assert trainer.may_lose_a_host(stays_here) == expected


def test_auto_is_a_number_for_the_workers_and_one_gpu_for_a_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(trainer, "resources_of_nodes", lambda: [{"CPU": 8, "GPU": 4}])
    monkeypatch.setattr(elastic, "free_room", lambda needs: 3 if needs["GPU"] else 8)
    job = Job(Config(), "runs/a")
    numbered = trainer._with_number_of_workers
    assert numbered(job).config.ray.num_workers == 4
    assert numbered(replace(job, is_trial=True)).config.ray.num_workers == 1
    shared = replace(job, config=override(Config(), {"ray.address": "auto"}))
    assert numbered(shared).config.ray.num_workers == 3
    three = replace(job, config=override(Config(), {"ray.num_workers": 3}))
    assert numbered(three) is three


def test_parameters_are_not_sharded_over_the_one_worker_of_auto(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "resources_of_nodes", lambda: [{"CPU": 8, "GPU": 1}])
    job = Job(override(Config(), {"training.parameters": "sharded"}), "runs/a")
    with pytest.raises(ValueError, match="needs ray.num_workers of at least 2, got 1"):
        trainer._with_number_of_workers(job)
