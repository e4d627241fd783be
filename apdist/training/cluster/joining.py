"""Start a Ray on this machine, or join a cluster; leave it again."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from apdist.config import RayConfig
from apdist.training.cluster.address import refuse_if_unreachable
from apdist.training.cluster.ends import ClusterError, Interrupted, first_line
from apdist.training.cluster.noise import NoiseFile, kept_noise
from apdist.training.cluster.own_ray import (
    give_token,
    in_own_session,
    on_loopback_only,
    refuse_without_place,
    session_folder,
    session_removed,
    sessions_root,
)
from apdist.training.cluster.quiet import without_core_lines
from apdist.training.cluster.room import address_of, refuse_at_once, refuse_if_too_small
from apdist.training.cluster.signals import handlers_kept

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    # A report waits for the next health check; two seconds would be felt at each evaluation.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker answers from a thread that does not train, so no long step is taken for a hang; a
    # link that is down for 20 s, and TCP's waits after it, are over by then.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "45",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # A notice of some seconds must reach the workers in time for a checkpoint.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its core writes errors that end nothing to the terminal; what ends a run is told by us.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A thread that outlives the cluster must not start another one.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # The older output of Tune can be silenced; ours tells the same and more.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
LONGEST_FOLDER = 36
"""Characters: the path of a socket has 107 at most, of which Ray's session takes 71."""
SMALLER = "with fewer --ray.num-workers"
"""What asks less of a machine, of the options of a sweep."""
WITHOUT_RAY = f"{SMALLER}, or without Ray: --ray.num-workers 0"
"""The same, of the options of a training."""


def prepare_environment() -> None:
    """Set what Ray reads when it is imported, unless the user has set it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def ray_cluster(config: RayConfig, log: str = "", smaller: str = WITHOUT_RAY) -> Iterator[None]:
    """Join or start Ray; leave it, and end what was started, when the block ends.

    Args:
        config: where it is, and what is wanted of it.
        log: a file for what it and its workers write, see `NoiseFile`.
        smaller: how to try again where a machine is overloaded, in the options of the verb.

    Raises:
        ValueError: no cluster answers at ``ray.address``, it is too small for the workers, or Ray
            has no place for its files here.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():  # a caller, a test for example, has its own
        refuse_if_too_small(config, resources_of_nodes())
        yield
        return
    address = address_of(config)
    refuse_at_once(config)
    if address == "local":
        refuse_without_place(sessions_root())
    else:
        refuse_if_unreachable(address)
    noise = NoiseFile(log)
    with kept_noise(noise):
        try:
            _start(address, noise, smaller)
        except ClusterError:
            if log:
                logger.warning("Ray's own output is in %s", log)
            raise
        session = session_folder() if address == "local" else None
        with session_removed(session, ValueError, Interrupted):
            try:
                refuse_if_too_small(config, resources_of_nodes())
                yield
            finally:
                ray.shutdown()


def _start(address: str, noise: NoiseFile, smaller: str) -> None:
    """`ray.init`, with an error that says what to do."""
    import ray

    noise.write(f"{time.strftime('%F')} driver {os.getpid()}: Ray {ray.__version__} at {address}")
    try:
        with handlers_kept(), without_core_lines(noise.write), ExitStack() as own:
            if address == "local":
                give_token()
                own.enter_context(on_loopback_only())
                own.enter_context(in_own_session())
            ray.init(
                address=address,
                log_to_driver=bool(noise.uri),
                logging_level=logging.WARNING,
                include_dashboard=False if address == "local" else None,
            )
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(
            f"the Ray cluster at {address!r} wants another token "
            f"({error.message.splitlines()[0]}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH "
            "(or RAY_AUTH_TOKEN) to the cluster's"
        ) from error
    except Exception as error:  # Ray raises bare ones, too
        if address == "local":
            if (length := len(str(sessions_root()))) > LONGEST_FOLDER:
                raise ClusterError(
                    f"Ray did not start on this machine ({first_line(error)}): the path of its "
                    f"temporary folder has {length} characters, too many for its sockets; set "
                    "RAY_TMPDIR to a short one, such as /tmp"
                ) from error
            if isinstance(error, PermissionError):  # of a machine that has all that it needs
                raise ClusterError(
                    f"Ray did not start on this machine ({error}); let this account write there, "
                    "or set HOME and RAY_TMPDIR to folders where it may"
                ) from error
            raise ClusterError(
                f"Ray did not start on this machine ({first_line(error)}); it is overloaded, or "
                f"memory or shared memory is short: try again {smaller}"
            ) from error
        raise ClusterError(
            f"no Ray cluster at ray.address {address!r} ({first_line(error)}); "
            "start one with `ray start --head`, use --ray.address local, or, where the cluster "
            "wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's"
        ) from error


def arrival(config: RayConfig) -> str:
    """What `ray_cluster` does first, as the name of a phase."""
    return "starting Ray" if address_of(config) == "local" else "joining the cluster"


def resources_of_nodes() -> list[dict[str, float]]:
    """What each living node of the cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
