"""What the driver makes of a signal and of a lost Ray, which is played."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from apdist.config import Config, override
from apdist.training.cluster import launch
from apdist.training.cluster.ends import Interrupted, TrainingError
from apdist.training.cluster.launch import run_training
from apdist.training.job import Job
from tests.training.cluster.conftest import Start


@pytest.fixture
def job(small_config: Config) -> Job:
    config = override(small_config, {"ray.num_workers": 1})
    return Job(config, config.run.output)


LOST = ray.exceptions.RayActorError()


@pytest.mark.parametrize("place", ["init", "remote_mailbox", "Inbox", "build_trainer"])
@pytest.mark.parametrize("end", [SystemExit(1), SystemExit(0), KeyboardInterrupt(), LOST])
def test_a_ctrl_c_before_the_first_step_is_a_stop_whatever_ray_makes_of_it(
    place: str,
    end: BaseException,
    job: Job,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object, **__: object) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        raise end

    start(stopped if place == "init" else lambda **_: None)
    played = {
        "remote_mailbox": lambda: None,
        "RemoteLink": lambda _: SimpleNamespace(request_stop=lambda: None),
        "Inbox": lambda _: lambda last: [],
        "build_trainer": lambda *_: SimpleNamespace(fit=lambda: None),
        place: (lambda _: stopped) if place == "Inbox" else stopped,
    }
    for name, play in played.items():
        monkeypatch.setattr(launch, name, play, raising=name != "init")
    with pytest.raises(Interrupted):
        run_training(job, lambda _: None)


def test_after_a_ctrl_c_while_ray_starts_no_worker_is_started(
    job: Job, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    start(lambda **_: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(launch, "remote_mailbox", lambda: begun.append("mailbox"))
    with pytest.raises(Interrupted):
        run_training(job, lambda _: None)
    assert not begun


def test_ray_that_is_lost_without_a_signal_is_a_failure(
    job: Job, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise LOST

    start(lambda **_: None)
    monkeypatch.setattr(launch, "remote_mailbox", lost)
    with pytest.raises(TrainingError, match=r"lost the Ray cluster .*output is in .*/ray\.log$"):
        run_training(job, lambda _: None)
