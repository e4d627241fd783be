"""Why workers ended that should not have, in a line: told before Ray starts them again."""

from collections.abc import Mapping, Sequence

from apdist.training.events import WorkersFailed, now_ms
from apdist.training.regrouping import Regrouped, within_an_hour

_WRAPPER = "UserExceptionWithTraceback"
_LOST_CONNECTION = ("Connection reset by peer", "Connection closed by peer")
"""Words of gloo: it tells of every end of a neighbour like that."""
_SIGNS = {
    "low on memory": "killed, as its host ran low on memory",
    "node has died": "its host went away",
    "node was terminated": "its host went away",
    "preempt": "its host was taken back",
    "SIGKILL": "its process was killed",
    "worker process has died": "its process died",
}
"""Words in Ray's long reports, and what they mean."""


def failure_of(errors: Mapping[int, Exception]) -> WorkersFailed:
    """What happened first among what the workers, by rank, ended with.

    A worker that lost the connection to another one is not the cause, if there is another error.
    """
    left = [error for error in errors.values() if isinstance(error, Regrouped)]
    if left:
        ranks = sorted(left[0].ranks)
        return WorkersFailed(ranks=ranks, cause=left[0].cause, time_ms=now_ms(), is_planned=True)
    lost = {rank: error for rank, error in errors.items() if not _raised_in_training(error)}
    chosen = lost or dict(errors)
    first = min(chosen)
    return WorkersFailed(
        ranks=sorted(chosen),
        cause=_gist(chosen[first]),
        time_ms=now_ms(),
        is_planned=any(map(_was_taken_back, errors.values())),
    )


def why_none_is_left(failed: Sequence[WorkersFailed], per_hour: int) -> str:
    """Why no restart is left, in words; empty: some are."""
    counted = within_an_hour(failed, failed[-1].time_ms) if failed else []
    if len(counted) <= per_hour:
        return ""
    causes = "; ".join(map(str, counted))
    times = "once" if len(counted) == 1 else f"{len(counted)} times"
    return (
        f"the workers failed {times} within an hour, and ray.restarts_per_hour is {per_hour}: "
        f"{causes}"
    )


def was_raised(errors: Mapping[int, Exception]) -> bool:
    """Whether an exception of the training's own code is what the workers ended with.

    Then no process or host was lost, and no connection alone: it may well be raised again.
    """
    own = all(map(_raised_in_training, errors.values()))
    return own and not all(map(_is_lost_connection, errors.values()))


def was_refused(errors: Mapping[int, Exception]) -> bool:
    """Whether it is bad input, which is told as `Failed` and would be refused again."""
    return was_raised(errors) and any(isinstance(e, ValueError | OSError) for e in errors.values())


def _is_lost_connection(error: Exception) -> bool:
    return any(sign in str(error) for sign in _LOST_CONNECTION)


def _was_taken_back(error: Exception) -> bool:
    """Whether a worker ended with its host, which was drained; others then fail beside it."""
    # What Ray wraps the end of an actor in has no other name for it.
    return bool(getattr(getattr(error, "health_check_failure", error), "preempted", False))


def _raised_in_training(error: Exception) -> bool:
    """Whether it is an error of our own code, as against the end of a process."""
    kind = type(error)  # Ray hands over what was raised, or that with its traceback as text
    return kind.__name__ == _WRAPPER or not kind.__module__.startswith("ray.")


def _gist(error: Exception) -> str:
    text = str(error)
    if _is_lost_connection(error):
        return "it lost the connection to another worker"
    if _raised_in_training(error):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        name = [] if type(error).__name__ == _WRAPPER else [type(error).__name__]
        return ": ".join(name + lines[-1:])[:300]
    for sign, meaning in _SIGNS.items():
        if sign in text:
            return meaning
    if "Timeout" in type(error).__name__:
        return "it does not answer any more"
    return (text.splitlines() or [type(error).__name__])[0][:300]
