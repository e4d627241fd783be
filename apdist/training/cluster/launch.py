"""Run the training loop on a Ray cluster, or in this process, and hear from it while it runs."""

import functools
import logging
import os
import re
import shlex
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from apdist.addresses import without_secrets
from apdist.config import Config, RayConfig
from apdist.data import storage
from apdist.training.cluster.address import refuse_if_unreachable
from apdist.training.cluster.background import Background
from apdist.training.cluster.elastic import elastic_trainer, group_watcher, notice, policies
from apdist.training.cluster.failures import why_none_is_left
from apdist.training.cluster.noise import FILE, NoiseFile, kept_noise
from apdist.training.cluster.own_ray import (
    heard_here_only,
    is_heard_here_only,
    out_of_our_group,
    session_folder,
    session_removed,
)
from apdist.training.cluster.quiet import without_core_lines
from apdist.training.cluster.remote import Inbox, RemoteLink, remote_mailbox
from apdist.training.cluster.room import (
    address_of,
    gpus_of,
    refuse_at_once,
    refuse_if_too_small,
    uses_gpus,
)
from apdist.training.cluster.signals import counted_signals, handlers_kept
from apdist.training.cluster.watch import Listener, watch
from apdist.training.events import Event, Failed, PhaseBegan, Stopping, WorkersFailed, now_ms
from apdist.training.mailbox import Link, Mailbox, WarningForwarder
from apdist.training.regrouping import nothing_noticed
from apdist.training.run_folder.runs import RAY

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

    from apdist.training.finalists import Finalists
    from apdist.training.loop import Job

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
PROCESS_GROUP_TIMEOUT_S = 300


class Interrupted(Exception):  # noqa: N818 - no error: the person asked for it
    """The run was stopped by Ctrl-C or SIGTERM."""


class ClusterError(ValueError):
    """Ray does not start, or no cluster answers."""


class TrainingError(RuntimeError):
    """The workers failed more often than ``ray.restarts_per_hour`` allows."""


def prepare_environment() -> None:
    """Set what Ray reads when it is imported, unless the user has set it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def ray_cluster(config: RayConfig, log: str = "") -> Iterator[None]:
    """Join or start Ray; leave it, and end what was started, when the block ends.

    Args:
        config: where it is, and what is wanted of it.
        log: a file for what it and its workers write, see `NoiseFile`.

    Raises:
        ValueError: no cluster answers at ``ray.address``, or it is too small for the workers.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():  # a caller, a test for example, has its own
        refuse_if_too_small(config, resources_of_nodes())
        yield
        return
    address = address_of(config)
    refuse_at_once(config)
    if address != "local":
        refuse_if_unreachable(address)
    noise = NoiseFile(log)
    with kept_noise(noise):
        try:
            _start(address, noise)
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


def _start(address: str, noise: NoiseFile) -> None:
    """`ray.init`, with an error that says what to do."""
    import ray

    noise.write(f"{time.strftime('%F')} driver {os.getpid()}: Ray {ray.__version__} at {address}")
    try:
        with handlers_kept(), without_core_lines(noise.write), ExitStack() as own:
            if address == "local":
                own.enter_context(heard_here_only())
                own.enter_context(out_of_our_group())
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
            folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
            if len(folder) > LONGEST_FOLDER:
                raise ClusterError(
                    f"Ray did not start on this machine ({_first_line(error)}): the path of its "
                    f"temporary folder has {len(folder)} characters, too many for its sockets; set "
                    "RAY_TMPDIR to a short one, such as /tmp"
                ) from error
            raise ClusterError(
                f"Ray did not start on this machine ({_first_line(error)}); it is overloaded, or "
                "memory or shared memory is short: try again with fewer --ray.num-workers, or "
                "without Ray: --ray.num-workers 0"
            ) from error
        raise ClusterError(
            f"no Ray cluster at ray.address {address!r} ({_first_line(error)}); "
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


def run_training(job: "Job", *listeners: Listener[Event]) -> None:
    """Train, and call ``listeners`` in this thread for everything the workers tell.

    The first Ctrl-C or SIGTERM asks the workers for a checkpoint; a second one ends at once.

    Raises:
        Interrupted: stopped by a signal.
        ValueError: a worker met bad input.
        TrainingError: the workers failed too often.
    """
    trainer = Background("trainer")
    # From here on: a KeyboardInterrupt while Ray starts could be lost in a callback of a library.
    with counted_signals() as signals, told_as_stop(signals), trainer.ended():
        if job.config.ray.most_workers == 0:
            mailbox = Mailbox[Event]()
            with mailbox.cancelled_at_the_end():
                _train(job, trainer, mailbox, lambda _: mailbox.take(), listeners, signals)
            return
        _begin(arrival(job.config.ray), listeners)
        log = storage.join(job.run, FILE)
        remedy = f"{_going_on(job)}; Ray's own output is in {log}"
        with ray_cluster(job.config.ray, log), loss_explained(remedy):
            _begin("starting the workers", listeners)
            actor = remote_mailbox()
            _train(job, trainer, RemoteLink(actor), Inbox(actor), listeners, signals)


def _begin(phase: str, listeners: Sequence[Listener[Event]]) -> None:
    event = PhaseBegan(name=phase, time_ms=now_ms())
    for listener in listeners:
        listener(event)


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
        logger.warning("the stop was not waited for: %s", _first_line(error))
        raise Interrupted from error


@contextmanager
def loss_explained(remedy: str) -> Iterator[None]:
    """`TrainingError` with ``remedy`` where the cluster ends, or Ray fails, while it is used."""
    try:
        yield
    except Exception as error:
        # RayError, TuneError and others: they have no class of exception in common.
        if not type(error).__module__.startswith("ray."):
            raise
        raise TrainingError(f"lost the Ray cluster ({gist(error)}); {remedy}") from error


def _train(
    job: "Job",
    trainer: Background,
    link: Mailbox[Event] | RemoteLink,
    take: Callable[[bool], list[Event]],
    listeners: Sequence[Listener[Event]],
    signals: list[int],
) -> None:
    """Run the trainer and watch it to its end."""

    def on_signal(number: int) -> None:
        if number > 1:
            raise KeyboardInterrupt
        link.request_stop()
        for listener in listeners:
            listener(Stopping())

    failed: list[WorkersFailed] = []

    def remember(event: Event) -> None:
        if isinstance(event, WorkersFailed):
            failed.append(event)

    from apdist.training.worker import train

    trainer.start(lambda: build_trainer(job, link, train).fit())
    watch(trainer, take, [_raise_failure, remember, *listeners], signals, on_signal)
    try:
        trainer.result()
    except BaseException as error:
        _explain_failure(job, error, failed)
    if signals:
        raise Interrupted


def _raise_failure(event: Event) -> None:
    if isinstance(event, Failed):
        raise ValueError(event.text)


def _explain_failure(
    job: "Job", error: BaseException, failed: Sequence[WorkersFailed] = ()
) -> None:
    if isinstance(error, ValueError | OSError):
        raise error
    log = storage.join(job.run, "error.log")
    where = f"the whole report is in {log}"
    if job.config.ray.num_workers:
        where += f", what the workers wrote in {storage.join(job.run, FILE)}"
    try:
        report = without_secrets("".join(traceback.format_exception(error)))
        storage.write_bytes(log, report.encode(errors="backslashreplace"))
    except OSError as second:  # the first one is the cause
        where = f"the report could not be written ({second})"
    why = why_none_is_left(failed, job.config.ray.restarts_per_hour) or gist(error)
    raise TrainingError(f"training failed: {why}; {where}; {_going_on(job)}") from error


def _going_on(job: "Job") -> str:
    return f"`apdist train --resume {shlex.quote(job.run)}` goes on from the last checkpoint"


def _first_line(error: BaseException) -> str:
    """The first line of what a library says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def gist(error: BaseException) -> str:
    """The line of a long report that names the exception: the last such line, or the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (named or lines or [type(error).__name__])[-1]


def may_lose_a_host(stays_here: bool) -> bool:
    """Whether notices of hosts that are taken back are listened for: a process more a training.

    Nobody takes the only host back, which is this machine. Several on one may be drained.

    Args:
        stays_here: whether the cluster is heard on this machine alone.
    """
    return not stays_here or len(resources_of_nodes()) > 1


def build_trainer(job: "Job | Finalists", link: Link, work: Callable[..., None]) -> "TorchTrainer":
    """The Ray Train v2 trainer of ``job``.

    Args:
        job: what its workers get.
        link: to the driver.
        work: what they do, a function of a module: of job, link, device and who takes notice.
    """
    prepare_environment()
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from apdist.training.cluster.rendezvous import LoopbackTorchConfig, PartingTorchConfig

    # Ray says at INFO that it has no workers, and where to report problems; that is our own choice.
    logging.getLogger("ray.train.v2.api.config").setLevel(logging.WARNING)
    config: Config = job.config
    resources: dict[str, float] = {"CPU": config.ray.cpus_per_worker}
    if with_gpus := _with_gpus(config.ray):
        resources["GPU"] = 1
    stays_here = config.ray.most_workers > 0 and is_heard_here_only()
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = str(int(may_lose_a_host(stays_here)))
    path, filesystem = storage.for_ray(job.run)
    scaling = ScalingConfig(
        num_workers=config.ray.most_workers,  # of a range as well: our own policy decides
        use_gpu=with_gpus,
        resources_per_worker=resources,
    )
    failure = FailureConfig()
    trainer: TorchTrainer = elastic_trainer()(
        functools.partial(run_worker, job, link, work, with_gpus),
        policies=policies(config.ray, link, scaling, failure, job.is_trial),
        scaling_config=scaling,
        run_config=RunConfig(
            name=RAY,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=failure,
            callbacks=[group_watcher(link)],
        ),
        torch_config=(LoopbackTorchConfig if stays_here else PartingTorchConfig)(
            # How it went is told from CPU to CPU: no worker waits for a GPU to say so.
            backend="cpu:gloo,cuda:nccl" if with_gpus else "gloo",
            timeout_s=PROCESS_GROUP_TIMEOUT_S,
        ),
    )
    return trainer


def _with_gpus(config: RayConfig) -> bool:
    """Whether each worker gets a GPU.

    Raises:
        ValueError: there is none in this process, where it is to be used.
    """
    nodes = resources_of_nodes() if config.most_workers else []
    found = uses_gpus(config, nodes)
    if found and config.most_workers == 0:
        import torch

        if not torch.cuda.is_available():
            raise ValueError(
                f"ray.use_gpu is {config.use_gpu}, and torch {torch.__version__} finds no GPU in "
                "this process; install its CUDA build, or use --ray.use-gpu no"
            )
    idle = gpus_of(nodes)
    if idle and not found and config.use_gpu == "auto" and address_of(config) != "local":
        logger.warning(
            "the cluster has too few GPUs, %d, for %d workers with %d CPUs each, so that CPUs "
            "compute; to use them: --ray.num-workers %d",
            *(idle, config.least_workers, config.cpus_per_worker, idle),
        )
    return found


def run_worker(
    job: "Job | Finalists", link: Link, work: Callable[..., None], with_gpu: bool
) -> None:
    """What Ray Train runs in each worker process."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from apdist.training.numerics import numerics
    from apdist.training.step.sharding import release_process_groups

    forwarder = WarningForwarder(link, get_context().get_world_rank())
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    package = logging.getLogger("apdist")
    package.addHandler(forwarder)
    package.propagate = False
    threads = torch.get_num_threads()
    if job.config.ray.most_workers:
        torch.set_num_threads(job.config.ray.cpus_per_worker)
    try:
        with numerics(job.config.training):
            # Ray gives what trains in its own process a GPU unasked.
            device = torch.device(get_device()) if with_gpu else torch.device("cpu")
            work(job, link, device, notice if job.config.ray.most_workers else nothing_noticed)
    except (ValueError, OSError) as error:
        # Bad input fails on every attempt: the driver ends the run instead of trying again.
        link.post(Failed(text=str(error)))
        raise
    finally:
        package.removeHandler(forwarder)
        package.propagate = True
        torch.set_num_threads(threads)
        release_process_groups()
