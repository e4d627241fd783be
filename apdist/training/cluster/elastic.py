"""How many workers Ray Train starts and when it starts them again: by notices, room and a budget.

Ray's own elastic policy is not used: it ends healthy workers wherever they are, waits for totals of
the cluster that are up to 20 s old, and counts hosts that are being drained as room.
"""

import asyncio
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

from apdist.config import RayConfig
from apdist.training.cluster.failures import failure_of, was_raised, was_refused
from apdist.training.cluster.room import address_of, room_on
from apdist.training.events import PhaseBegan, now_ms
from apdist.training.mailbox import Link
from apdist.training.regrouping import RestartBudget, WorkerCount

LOOK_EVERY_S = 5.0
"""How often the room on the cluster is looked at while workers are healthy."""
POLL_S = 0.5
"""The same while there are none."""

IDLE = ("PlacementGroupCleanerCallback", "DatasetsCallback")
"""Parts of Ray Train that start a process for each training, for nothing: placement groups of a
driver end with it, those of a trial the sweep removes; and there are no data sets of Ray's."""

_terminations: list[str] = []
"""In a worker's process."""
_places: Counter[str] = Counter()
"""In the controller's: workers by node, whose places they keep until the next ones are started."""


def elastic_trainer() -> type[Any]:
    """Ray's `TorchTrainer` with the policies of this file, and with fewer processes."""
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    base: Any = TorchTrainer  # which of Ray's two it is, is found out when Ray is imported

    class Trainer(base):  # type: ignore[misc]
        """Args: ``policies`` by the names that Ray's controller has for them."""

        def __init__(self, *args: Any, policies: dict[str, Any], **more: Any) -> None:
            super().__init__(*args, **more)
            self.policies = policies
            self.occupied: Callable[[Any], None] = lambda _: None
            """Hears of the placement group of the workers of a trial before it is there."""

        def _create_default_callbacks(self) -> list[Any]:
            found = super()._create_default_callbacks()
            return [callback for callback in found if type(callback).__name__ not in IDLE]

        def _initialize_and_run_controller(self, **arguments: Any) -> Any:
            arguments |= self.policies
            if not is_in_actor():
                return super()._initialize_and_run_controller(**arguments)
            # A trial's process does nothing else: another one would take seconds to start.
            controller = TrainController(**arguments)
            controller.worker_group_cls = self._group()
            asyncio.run(controller.run())
            return controller.get_result()

        def _group(self) -> type[Any]:
            occupied = self.occupied
            base: Any = WorkerGroup

            class Group(base):  # type: ignore[misc]
                def _create_placement_group(self, *given: Any) -> Any:
                    handle = super()._create_placement_group(*given)
                    occupied(handle.placement_group)
                    return handle

            return Group

    return Trainer


def is_in_actor() -> bool:
    """Whether this process is an actor, as those of trials are, and no driver."""
    import ray

    return ray.get_runtime_context().get_actor_id() is not None


def policies(
    config: RayConfig, link: Link, scaling: Any, failure: Any, is_trial: bool = False
) -> dict[str, Any]:
    """What decides in Ray's controller: after a failure, and where the number is a range.

    Args:
        config: of the workers.
        link: to the driver; where the number is a range also the way to tell of room.
        scaling: Ray's `ScalingConfig`.
        failure: Ray's `FailureConfig`.
        is_trial: whether a sweep tries again what raises an exception.
    """
    found = {"failure_policy": _failure_policy(config.restarts_per_hour, failure, is_trial)}
    if config.is_elastic:
        found["scaling_policy"] = _scaling_policy(config, link, scaling)
    return found


def _failure_policy(per_hour: int, failure: Any, is_trial: bool) -> Any:
    from ray.train.v2._internal.execution.failure_handling import (
        DefaultFailurePolicy,
        FailureDecision,
    )
    from ray.train.v2.api.exceptions import WorkerGroupError

    class Hourly(DefaultFailurePolicy):
        budget = RestartBudget(per_hour)

        def make_decision(self, training_failed_error: Any) -> Any:
            if not isinstance(training_failed_error, WorkerGroupError):
                return super().make_decision(training_failed_error)
            errors = training_failed_error.worker_failures
            if failure_of(errors).is_planned:
                return FailureDecision.RETRY
            is_final = was_refused(errors) or (is_trial and was_raised(errors))
            goes_on = self.budget.spend(now_ms()) and not is_final
            return FailureDecision.RETRY if goes_on else FailureDecision.RAISE

    return Hourly(failure)


def _scaling_policy(config: RayConfig, link: Any, scaling: Any) -> Any:
    from ray.train.v2._internal.execution.scaling_policy import (
        NoopDecision,
        ResizeDecision,
        ScalingPolicy,
    )

    base: Any = ScalingPolicy
    needs = scaling._resources_per_worker_not_none

    class AtCheckpoints(base):  # type: ignore[misc]
        size = WorkerCount(config.least_workers, config.most_workers)
        looked_s = 0.0
        is_waiting = False

        def _get_num_workers_for_resource_request(self) -> int:
            return config.most_workers

        def make_decision_for_non_running_worker_group(self) -> Any:
            self._maybe_send_resource_request()
            room = free_room(needs)
            if (number := self.size.to_start(room)) is not None:
                self.is_waiting = False
                link.tell_room(0)
                return ResizeDecision(num_workers=number, resources_per_worker=needs)
            if room < config.least_workers and not self.is_waiting:
                self.is_waiting = True
                wanted = f"{config.least_workers} worker{'s' * (config.least_workers > 1)}"
                link.post(PhaseBegan(name=f"waiting for room for {wanted}", time_ms=now_ms()))
            if link.stop_requested():
                raise RuntimeError("asked to stop while there was no room for workers")
            time.sleep(POLL_S)  # Ray asks again at once
            return NoopDecision()

        def make_decision_for_running_worker_group(
            self, worker_group_state: Any, worker_group_status: Any
        ) -> Any:
            del worker_group_status
            self._maybe_send_resource_request()
            if time.monotonic() >= self.looked_s + LOOK_EVERY_S:
                self.looked_s = time.monotonic()
                there = worker_group_state.num_workers
                link.tell_room(self.size.to_grow(free_room(needs), there))
            return NoopDecision()  # the workers end by themselves, at a checkpoint

    return AtCheckpoints(scaling)


def free_room(needs: Mapping[str, float]) -> int:
    """How many workers with such ``needs`` fit on the hosts that stay, in place of those there."""
    import ray
    from ray._private.state import available_resources_per_node, state

    free, leaving = available_resources_per_node(), state.get_draining_nodes()
    names = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    nodes = [
        {kind: free.get(name, {}).get(kind, 0) + _places[name] * n for kind, n in needs.items()}
        for name in names
        if name not in leaving
    ]
    return int(room_on({kind: n for kind, n in needs.items() if n}, nodes))


def free_gpus(config: RayConfig) -> float:
    """How many workers with a GPU there is room for; no end on a machine that is ours alone."""
    if address_of(config) == "local":
        return math.inf
    return free_room({"CPU": config.cpus_per_worker, "GPU": 1})


def occupy(nodes: Iterable[str]) -> None:
    """Note the nodes of the workers that there are, one for each worker."""
    _places.clear()
    _places.update(nodes)


def group_watcher(link: Link) -> Any:
    """A callback of Ray Train that tells the driver why workers ended, and has SIGTERM noted."""
    from ray.train.v2._internal.execution.callback import WorkerGroupCallback

    class Watcher(WorkerGroupCallback):
        is_told = False

        def before_worker_group_start(self, worker_group_context: Any) -> None:
            del worker_group_context
            occupy([])

        def after_worker_group_start(self, worker_group: Any) -> None:
            self.is_told = False
            # Functions of a module: this class, and the policies, are copies in the controller.
            occupy(worker.metadata.node_id for worker in worker_group.get_workers())
            worker_group.execute(note_sigterm)

        def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
            # The workers of a host that is taken back are polled on until its end.
            if worker_group_status.errors and not self.is_told:
                self.is_told = True
                link.post(failure_of(worker_group_status.errors))

    return Watcher()


def note_sigterm() -> None:
    """Take the first SIGTERM of a worker's process for a preemption notice; the next one ends it.

    Called in its main thread, which executes Python at least as often as Ray polls.
    """
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        if _terminations and callable(before):
            before(number, frame)
        _terminations.append("its process got a SIGTERM")

    signal.signal(signal.SIGTERM, note)


def preemption_notice() -> str:
    """Why this worker is about to be preempted, in words; empty: it is not."""
    if _terminations:
        return _terminations[0]
    from ray.train.v2._internal.execution.context import get_train_context

    context = get_train_context()
    # Ray's public way is a barrier of all workers in another process, at each step.
    info = context.preemption_context.preemption_info
    if info is None or context.get_world_rank() not in info.preempted_ranks:
        return ""
    return "its host is to be taken back"
