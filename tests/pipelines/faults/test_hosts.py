"""Hosts of a cluster are killed, lost, drained, cut off and come back under a training."""

import time
from collections.abc import Callable, Iterator

import pytest

from apdist.training.events import Restarted
from apdist.training.run_folder.runs import open_run
from tests.pipelines.faults.hosts import NAMES, Hosts, NotAllowedError, hosts
from tests.pipelines.faults.rows import (
    Fault,
    Trial,
    Undisturbed,
    World,
    check,
    is_whole,
    last_step,
    tell,
    when,
)
from tests.ray_nodes import environment

AWAY_S, NOTICE_S = 20, 15
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Fault:
    """Steps take their time from step 6 on, as long as its file is there."""
    return Fault("slow", tmp_path_factory.mktemp("slow") / "slow", step=6)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, slow: Fault) -> Iterator[Hosts]:
    """Hosts, of which two train and one stands by."""
    folder = tmp_path_factory.mktemp("hosts")
    env = {**environment(folder), **slow.environment(), "OMP_NUM_THREADS": "1"}
    del env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # keeps Ray on loopback
    try:
        with hosts(env, folder) as made:
            yield made
    except NotAllowedError:
        pytest.skip("no network namespace can be made here: it takes root and `ip`")


@pytest.fixture
def ready(three: Hosts, slow: Fault) -> Hosts:
    """All hosts are there, whatever the test before did to them; steps take their time."""
    slow.file.touch()
    three.start(*(name for name in NAMES if name not in three.processes))
    return three


Disturb = Callable[[Hosts, str], bool]


def disturbed(
    up: World, expected: Undisturbed, hosts: Hosts, slow: Fault, trial: Trial, disturb: Disturb
) -> tuple[list[Restarted], float]:
    """Train with two workers, disturb one of their hosts; how they went on, and since when.

    ``disturb`` returns whether they have to start again.
    """

    def restarts() -> list[Restarted]:
        return open_run(trial.uri(up)).of_kind(Restarted)

    where = ["--ray.address", hosts.address, "--checkpoint.every-steps", "10"]
    with trial.started(up.place, *up.begin(trial.name, *where, workers=2)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 13)
        since_s = time.time()
        if disturb(hosts, hosts.with_workers()[-1]):
            command.wait_until(lambda: bool(restarts()))
        slow.file.unlink()
        is_whole(*command.end())
    check(up, trial, expected)
    return restarts(), since_s


def test_a_host_that_is_killed_and_comes_back_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, ready: Hosts, slow: Fault
) -> None:
    trial = Trial("host killed")

    def disturb(hosts: Hosts, name: str) -> bool:
        hosts.kill(name)
        trial.replayed = last_step(trial.uri(up)) - 10
        hosts.start(name)
        return True

    (event,), since_s = disturbed(up, two_workers, ready, slow, trial, disturb)
    assert (event.step, event.num_workers, event.restarts_left) == (10, 2, 2)
    tell(up, trial, "a host of two killed, another stands by", when(event, since_s))


def test_a_host_that_is_lost_without_a_sign_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, ready: Hosts, slow: Fault
) -> None:
    trial = Trial("host lost")

    def disturb(hosts: Hosts, name: str) -> bool:
        hosts.unplug(name)
        hosts.kill(name)
        trial.replayed = last_step(trial.uri(up)) - 10
        return True

    (event,), since_s = disturbed(up, two_workers, ready, slow, trial, disturb)
    assert (event.step, event.num_workers, event.restarts_left) == (10, 2, 2)
    for name in NAMES:
        ready.plug(name)
    tell(up, trial, "a host of two lost without a sign", when(event, since_s))


def test_a_host_that_is_drained_with_a_notice_costs_no_step(
    up: World, two_workers: Undisturbed, ready: Hosts, slow: Fault
) -> None:
    trial = Trial("host drained")
    drained: list[str] = []
    told_s: list[float] = []

    def disturb(hosts: Hosts, name: str) -> bool:
        hosts.drain(name, NOTICE_S)
        drained.append(name)
        told_s.append(time.time())
        return True

    (event,), _ = disturbed(up, two_workers, ready, slow, trial, disturb)
    ready.kill(drained[0])
    assert event.step >= 13
    assert (event.num_workers, event.restarts_left) == (2, 3)
    assert "its host is to be taken back; checkpoint after step" in event.cause
    tell(up, trial, f"a host of two drained, notice of {NOTICE_S} s", when(event, told_s[0]))


def test_a_link_that_is_down_for_seconds_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, ready: Hosts, slow: Fault
) -> None:
    trial = Trial("link down")

    def disturb(hosts: Hosts, name: str) -> bool:
        hosts.unplug(name)
        time.sleep(AWAY_S)
        hosts.plug(name)
        return False

    events, since_s = disturbed(up, two_workers, ready, slow, trial, disturb)
    told = ", ".join(when(event, since_s) for event in events) or "waited for"
    tell(up, trial, f"a host's link down for {AWAY_S} s", told)
