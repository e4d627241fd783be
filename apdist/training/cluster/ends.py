"""How the use of a cluster ends: stopped, lost or failed, each in a line with its remedy."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Interrupted(Exception):  # noqa: N818 - no error: the person asked for it
    """The run was stopped by Ctrl-C or SIGTERM."""


class ClusterError(ValueError):
    """Ray does not start, or no cluster answers."""


class TrainingError(RuntimeError):
    """The workers failed more often than ``ray.restarts_per_hour`` allows."""


@contextmanager
def told_as_stop(signals: Sequence[int]) -> Iterator[None]:
    """`Interrupted` for the end of the block by a signal, whatever Ray makes of it.

    A terminal's Ctrl-C goes to Ray's own processes as well: before the first step an actor that
    starts may end by it, or Ray itself. Bad input stays what it is.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # a second one, or an answer of Ray's
        raise Interrupted from None
    except (ClusterError, TrainingError) as error:
        if not signals:
            raise
        logger.warning("the stop was not waited for: %s", first_line(error))
        raise Interrupted from error


@contextmanager
def lost_cluster_explained(remedy: str) -> Iterator[None]:
    """`TrainingError` with ``remedy`` where the cluster ends, or Ray fails, while it is used."""
    try:
        yield
    except Exception as error:
        # RayError, TuneError and others: they have no class of exception in common.
        if not type(error).__module__.startswith("ray."):
            raise
        raise TrainingError(f"lost the Ray cluster ({gist(error)}); {remedy}") from error


def first_line(error: BaseException) -> str:
    """The first line of what a library says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def gist(error: BaseException) -> str:
    """The line of a long report that names the exception: the last such line, or the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (named or lines or [type(error).__name__])[-1]
