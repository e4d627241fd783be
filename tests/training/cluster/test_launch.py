"""What the driver makes of Ray's start, its silence and its end; Ray itself is played."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from apdist.config import Config, RayConfig, override
from apdist.training.cluster import launch
from apdist.training.cluster.launch import (
    Interrupted,
    TrainingError,
    loss_explained,
    ray_cluster,
    run_training,
    told_as_stop,
)
from apdist.training.cluster.remote import Inbox
from apdist.training.events import Stopping, Warned
from apdist.training.loop import Job
from apdist.training.mailbox import Mailbox

STEP, END = Warned(text="a"), Stopping()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[..., Any]], None]]:
    """Lets a function stand for `ray.init`."""
    for name in ("is_initialized", "shutdown"):
        monkeypatch.setattr(ray, name, lambda: False)
    monkeypatch.setattr(launch, "resources_of_nodes", lambda: [{"CPU": 8}])
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    yield lambda init: monkeypatch.setattr(ray, "init", init)
    for kind, handler in before.items():
        signal.signal(kind, handler)


def test_handlers_of_signals_outlive_the_start_of_ray(
    start: Callable[[Callable[..., Any]], None],
) -> None:
    kinds = [signal.SIGINT, signal.SIGTERM]
    before = [signal.getsignal(kind) for kind in kinds]
    start(lambda **_: [signal.signal(kind, signal.SIG_IGN) for kind in kinds])
    with ray_cluster(RayConfig(num_workers=1)):
        assert [signal.getsignal(kind) for kind in kinds] == before


def test_a_sigterm_while_ray_starts_is_a_stop(start: Callable[[Callable[..., Any]], None]) -> None:
    def init(**_: object) -> None:
        raise SystemExit(15)  # Ray's handler of SIGTERM

    start(init)
    with pytest.raises(KeyboardInterrupt), ray_cluster(RayConfig(num_workers=1)):
        pytest.fail("it went on")


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
    start: Callable[[Callable[..., Any]], None],
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


def test_ray_that_is_lost_without_a_signal_is_a_failure(
    job: Job, start: Callable[[Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise LOST

    start(lambda **_: None)
    monkeypatch.setattr(launch, "remote_mailbox", lost)
    with pytest.raises(TrainingError, match=r"lost the Ray cluster .*output is in .*/ray\.log$"):
        run_training(job, lambda _: None)


def test_bad_input_that_is_told_after_a_signal_is_still_told() -> None:
    with pytest.raises(ValueError, match="no room"), told_as_stop([signal.SIGINT]):
        raise ValueError("no room for the last checkpoint")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A mailbox actor whose answers are given when it ``is_ready``, as they are then."""
    box = Mailbox()
    played = SimpleNamespace(
        box=box,
        is_ready=True,
        num_asked=0,
        actor=SimpleNamespace(take=SimpleNamespace(remote=lambda: ask())),
    )

    def ask() -> list[Any]:
        played.num_asked += 1
        return box.take()

    def wait(answers: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
        return (answers, []) if played.is_ready or timeout is None else ([], answers)

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    return played


def test_an_answer_that_takes_long_is_waited_for_and_not_asked_for_again(
    cluster: SimpleNamespace,
) -> None:
    take = Inbox(cluster.actor)
    cluster.box.post(STEP)
    cluster.is_ready = False
    assert [take(last=False), take(last=False)] == [[], []]
    cluster.is_ready = True
    assert take(last=False) == [STEP]
    assert cluster.num_asked == 1
    cluster.box.post(END)
    assert take(last=False) == [END]


@pytest.mark.parametrize(
    ("stays_here", "num_hosts", "expected"),
    [(True, 1, False), (True, 2, True), (False, 1, True), (False, 3, True)],
)
def test_notices_are_heard_but_by_the_only_host_of_all(
    stays_here: bool, num_hosts: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "resources_of_nodes", lambda: [{"CPU": 8}] * num_hosts)
    assert launch.may_lose_a_host(stays_here) == expected


def test_the_last_look_misses_nothing(cluster: SimpleNamespace) -> None:
    take = Inbox(cluster.actor)
    cluster.box.post(STEP)
    cluster.is_ready = False
    assert take(last=False) == []
    cluster.box.post(END)
    assert take(last=True) == [STEP, END]


def test_a_cluster_that_is_lost_is_told_in_one_line_with_a_remedy() -> None:
    error = ray.exceptions.RayActorError()
    lost = pytest.raises(TrainingError, match=r"^lost the Ray cluster \(.*\); go on$")
    with lost as told, loss_explained("go on"):
        raise error
    assert "\n" not in str(told.value)


def test_a_bare_exception_while_ray_starts_is_told_in_one_line_with_a_remedy(
    start: Callable[[Callable[..., Any]], None],
) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")

    start(slow)
    told = r"Ray did not start .*timed out during startup.\).*--ray.num-workers 0$"
    with pytest.raises(ValueError, match=told), ray_cluster(RayConfig(num_workers=1)):
        pass


def test_where_ray_does_not_start_its_own_words_are_kept_and_named(
    start: Callable[[Callable[..., Any]], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(**_: object) -> None:
        os.write(2, b"[2026-11-26 23:17:36,299 E 23339 23339] raylet.cc:1: no shared memory\n")
        raise Exception("The current node timed out during startup.")

    start(slow)
    log = tmp_path / "ray.log"
    starting = ray_cluster(RayConfig(num_workers=1), str(log))
    with pytest.raises(ValueError, match="Ray did not start"), starting:
        pass
    assert "no shared memory" in log.read_text()
    assert f"Ray's own output is in {log}" in caplog.text


def test_a_failure_of_tune_is_told_in_one_line_and_one_of_ours_is_passed_on() -> None:
    from ray.tune.error import TuneError

    with pytest.raises(TrainingError, match=r"\(broken\); go on$"), loss_explained("go on"):
        raise TuneError("broken")
    with pytest.raises(KeyError), loss_explained("go on"):
        raise KeyError


@pytest.mark.parametrize(
    ("folder", "message"),
    [("/tmp/" + "x" * 60, "has 65 characters, .* RAY_TMPDIR to a short"), ("/tmp", "overloaded")],
)
def test_a_folder_whose_path_is_too_long_for_rays_sockets_is_named(
    start: Callable[[Callable[..., Any]], None],
    folder: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError("AF_UNIX path length cannot exceed 107 bytes")

    start(refuse)
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ValueError, match=message), ray_cluster(RayConfig(num_workers=1)):
        pass


def test_a_hang_is_noticed_within_a_minute_and_a_link_may_be_down_for_20_s() -> None:
    seconds = float(launch.ENVIRONMENT["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"])
    polls_s = float(launch.ENVIRONMENT["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"])
    assert 2 * 20 < seconds < 60 - 2 * polls_s  # TCP waits as long again
