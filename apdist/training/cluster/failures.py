"""Why workers ended that should not have, in a line: told before Ray starts them again."""

from collections.abc import Mapping
from typing import Any

from apdist.training.events import WorkersFailed, now_ms
from apdist.training.mailbox import Link

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


def failure_reporter(link: Link) -> Any:
    """A callback of Ray Train that posts each failure; it lives in the controller's process."""
    from ray.train import UserCallback

    class Reporter(UserCallback):
        def after_exception(
            self, run_context: Any, worker_exceptions: Mapping[int, Exception]
        ) -> None:
            del run_context
            link.post(failure_of(worker_exceptions))

    return Reporter()


def failure_of(errors: Mapping[int, Exception]) -> WorkersFailed:
    """What happened first among what the workers, by rank, ended with.

    A worker that lost the connection to another one is not the cause, if there is another error.
    """
    lost = {rank: error for rank, error in errors.items() if not _raised_in_training(error)}
    chosen = lost or dict(errors)
    first = min(chosen)
    return WorkersFailed(
        ranks=sorted(chosen),
        cause=_gist(chosen[first]),
        time_ms=now_ms(),
    )


def _raised_in_training(error: Exception) -> bool:
    """Whether it is an error of our own code, as against the end of a process."""
    kind = type(error)  # Ray hands over what was raised, or that with its traceback as text
    return kind.__name__ == _WRAPPER or not kind.__module__.startswith("ray.")


def _gist(error: Exception) -> str:
    text = str(error)
    if any(sign in text for sign in _LOST_CONNECTION):
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
