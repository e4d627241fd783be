"""The mailbox as a Ray actor: the ends that workers and driver have of it."""

from typing import Any, Generic

from apdist.training.events import Event, FromTrial, WorkersFailed, refuse_unlisted
from apdist.training.mailbox import Mailbox, Posted

ANSWER_S = 0.1
"""How long the driver waits for an answer before it looks around again."""


def remote_mailbox() -> Any:
    """A mailbox actor on the driver's node: it lives as long as the driver does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


class RemoteLink:
    """A worker's end of a mailbox that is a Ray actor; never makes a step wait.

    Args:
        actor: the mailbox.
        trial: of a sweep whose trials share it.
    """

    def __init__(self, actor: Any, trial: str = "") -> None:
        self.actor, self.trial = actor, trial
        self._answer: Any = None

    def post(self, event: Event) -> None:
        """Send without waiting.

        Raises:
            TypeError: it is no event.
        """
        self.send(event)

    def send(self, posted: Event | FromTrial) -> None:
        """Send what the mailbox is for, without waiting."""
        refuse_unlisted(posted)  # here: nobody asks for the actor's answer
        self.actor.post.remote(posted)

    def request_stop(self) -> None:
        """Ask the workers to end."""
        self.actor.request_stop.remote(self.trial)

    def stop_requested(self) -> bool:
        """The newest answer that has arrived; asks again for the next step."""
        import ray

        if self._answer is None:
            self._answer = self.actor.stop_requested.remote(self.trial)
        ready, _ = ray.wait([self._answer], timeout=0)
        if not ready:
            return False
        answer = bool(ray.get(self._answer))
        self._answer = None
        return answer

    def tell_room(self, num_workers: int) -> None:
        """Tell the workers how many of them there is room for."""
        self.actor.tell_room.remote(num_workers)

    def room(self) -> int:
        """How many workers there is room for; 0: nobody has told. Waits for the answer."""
        import ray

        return int(ray.get(self.actor.room.remote()))

    def failures(self) -> list[WorkersFailed]:
        """All failures of workers since the driver began."""
        return [posted for posted in self.posted_failures() if isinstance(posted, WorkersFailed)]

    def posted_failures(self) -> list[Any]:
        """What the mailbox holds of them."""
        import ray

        found: list[Any] = ray.get(self.actor.failures.remote())
        return found


class Inbox(Generic[Posted]):
    """The driver's end of a mailbox that is a Ray actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self._answer: Any = None

    def __call__(self, last: bool) -> list[Posted]:
        """The events that have come; with ``last`` surely all.

        Else it waits for a moment only: where the cluster is gone nobody could stop it.

        Raises:
            ray.exceptions.RayError: the actor is gone.
        """
        import ray

        if self._answer is None:
            self._answer = self.actor.take.remote()
        ready, _ = ray.wait([self._answer], timeout=None if last else ANSWER_S)
        if not ready:
            return []
        events: list[Posted] = ray.get(self._answer)
        self._answer = None
        if last:  # what came after the question was asked
            events += ray.get(self.actor.take.remote())
        return events
