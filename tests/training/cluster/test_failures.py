"""What is said of workers that ended."""

import pytest
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from apdist.training.cluster.failures import (
    failure_of,
    was_raised,
    was_refused,
    why_none_is_left,
)
from apdist.training.events import WorkersFailed, now_ms
from apdist.training.regrouping import HOUR_MS, Regrouped


def died(text: str) -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("A worker health check failed.", RuntimeError(text))


LOST = RuntimeError("[pair.cc:537] Read error [127.0.0.1]:1932: Connection reset by peer. Check")
RAISED = RuntimeError("no such thing")
WRAPPED = UserExceptionWithTraceback(
    RAISED, "Traceback (most recent call last):\n  ...\nRuntimeError: no such thing\n"
)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("The actor died because its node has died. Node Id: 3a", "its host went away"),
        ("Task was killed due to the node running low on memory", "its host ran low on memory"),
        ("because its worker process has died. Worker exit type: SYSTEM_ERROR", "process died"),
        ("something that Ray says one day\nand more", "A worker health check failed."),
    ],
)
def test_the_end_of_a_worker_is_said_in_a_line(text: str, meaning: str) -> None:
    failed = failure_of({1: died(text)})
    assert failed.ranks == [1]
    assert meaning in failed.cause
    assert "\n" not in failed.cause


def test_a_worker_that_lost_its_neighbour_is_not_the_cause() -> None:
    failed = failure_of({0: LOST, 2: died("its worker process has died"), 3: LOST})
    assert (failed.ranks, failed.cause) == ([2], "its process died")


def test_an_error_of_the_training_is_told_by_its_last_line() -> None:
    for error in (RAISED, WRAPPED):
        failed = failure_of({0: error, 1: error})
        assert failed.ranks == [0, 1]
        assert failed.cause == "RuntimeError: no such thing"


def test_a_lost_connection_is_said_in_words() -> None:
    failed = failure_of({0: LOST})  # the other worker's end is not known yet
    assert failed.cause == "it lost the connection to another worker"


def test_what_the_training_raised_is_told_from_what_happened_to_it() -> None:
    dead, refused = died("its worker process has died"), ValueError("no such file")
    assert [was_raised(e) for e in ({0: RAISED}, {0: LOST, 1: RAISED}, {0: LOST}, {0: dead})] == [
        *(True, True, False, False)
    ]
    assert not was_raised({0: RAISED, 1: dead})
    assert was_refused({0: refused, 1: LOST})
    assert not was_refused({0: RAISED})
    assert not was_refused({0: refused, 1: dead})


def test_workers_that_end_for_others_to_go_on_have_not_failed() -> None:
    told = Regrouped("its host is to be taken back; checkpoint after step 7", (1,))
    failed = failure_of({0: told, 1: told, 2: LOST})
    assert (failed.ranks, failed.cause, failed.is_planned) == ([1], told.cause, True)
    assert failure_of({0: Regrouped("there is room for 3 workers")}).ranks == []


def test_a_host_that_was_drained_takes_no_restart_also_where_a_neighbour_is_heard_first() -> None:
    died, taken = ActorDiedError(), ActorDiedError()
    taken._preempted = True
    ends = [WorkerHealthCheckFailedError("Failed.", error) for error in (died, taken)]
    assert [failure_of({0: LOST, 1: end}).is_planned for end in ends] == [False, True]


def test_a_worker_that_hangs_does_not_answer() -> None:
    failed = failure_of({1: WorkerHealthCheckTimeoutError("A worker hangs.")})
    assert failed.cause == "it does not answer any more"


def test_a_run_that_has_no_restart_left_names_the_causes() -> None:
    now = now_ms()
    ends = [
        WorkersFailed(ranks=[1], cause=cause, time_ms=now - age_ms, hosts=["a"], is_planned=planned)
        for cause, age_ms, planned in [
            ("long ago", HOUR_MS + 99, False),
            ("its process died", 5000, False),
            ("its host is to be taken back", 4000, True),
            ("its host went away", 10, False),
        ]
    ]
    assert why_none_is_left(ends, 2) == why_none_is_left([], 0) == ""
    assert why_none_is_left(ends, 1) == (
        "the workers failed 2 times within an hour, and ray.restarts_per_hour is 1: "
        "worker 1 on a: its process died; worker 1 on a: its host went away"
    )
