"""Ray Tune as it runs the trials of a sweep: it starts their processes, we say which and how many.

Tune keeps no state that is used again and decides nothing: its own restore was found fragile, and a
trial that it stops leaves workers behind. A trial is asked to stop, and ends with a checkpoint.
"""

import functools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from apdist.config import Config
from apdist.data import storage
from apdist.training.cluster.background import Background
from apdist.training.cluster.ends import Interrupted
from apdist.training.cluster.joining import resources_of_nodes
from apdist.training.cluster.remote import Inbox, remote_mailbox
from apdist.training.cluster.room import uses_gpus, with_number
from apdist.training.cluster.signals import counted_signals
from apdist.training.cluster.watch import watch
from apdist.training.events import FromTrial
from apdist.training.sweeps.driving import Driver
from apdist_verbs.sweeping.board import Board
from apdist_verbs.sweeping.trials import run_trial
from apdist_verbs.terminal.console import say

LOOK_EVERY_S = 2.0
"""How often the cluster is asked what it has."""
HEARD_S = 2.0
"""Most that Tune waits until the board has heard of an end. Told that there is no trial, it sleeps
for whole seconds before it asks again."""


class Feeder(Searcher):
    """Hands Tune the trials that the driver says, while there is room for them.

    Args:
        driver: decides.
        room: how many trials may run now.
    """

    def __init__(self, driver: Driver, room: Callable[[], int]) -> None:
        super().__init__()
        self.driver, self.room = driver, room
        self.attempts: dict[str, str] = {}
        """Name of the trial by what Tune calls the attempt."""
        self.over = deque[str]()
        """Attempts that are over, as Tune calls them, until the board has seen them."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial, nothing for now, or that there is no more."""
        deadline = time.monotonic() + HEARD_S
        while self.over and time.monotonic() < deadline:
            time.sleep(0.02)
        running = self.driver.running
        if self.driver.is_done:
            # One that fails is tried again, and Tune asks no more once it was told.
            return None if running or self.over else Searcher.FINISHED
        if len(running) >= self.room() or (record := self.driver.next()) is None:
            return None
        self.attempts[trial_id] = record.name
        return {"trial": record.name, "params": record.params, "seed": record.seed}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: evaluations come by the mailbox."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """An attempt is over, or its process is gone."""
        del result, error
        self.over.append(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's state is in its folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

    def get_state(self) -> dict[str, Any]:
        """Nothing, likewise."""
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing, likewise."""

    def __deepcopy__(self, memo: object) -> "Feeder":
        """No copy: Ray Tune copies searchers, and there is one driver to ask."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """What Tune writes for a restore that is never asked for."""
        return Searcher, ()


class Room:
    """How many trials the cluster holds; more would wait for each other's workers.

    Args:
        config: of the sweep.
        most: that a person allows; 0: as many as there is room for.
    """

    def __init__(self, config: Config, most: int) -> None:
        self.config, self.most = config, most
        self._found, self._looked = 1, -LOOK_EVERY_S

    def __call__(self) -> int:
        """By what is there now: nodes come and go."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._found, self._looked = self._look(), time.monotonic()
        return min(self._found, self.most) if self.most else self._found

    def _look(self) -> int:
        nodes = resources_of_nodes()
        options = with_number(self.config.ray, nodes, most=1)
        cpus = sum(node.get("CPU", 0) // options.cpus_per_worker for node in nodes)
        room = int(cpus) // options.most_workers
        if uses_gpus(options, nodes):
            gpus = sum(node.get("GPU", 0) for node in nodes)
            room = min(room, int(gpus) // options.most_workers)
        return max(1, room)


class Listener:
    """Hears the trials, and ends them where there is a reason; what a watch asks for events.

    Args:
        board: hears the trials.
        feeder: knows which attempts are over.
        inbox: of the mailbox that all trials share.
        until: when no more time is left, by the monotonic clock.
    """

    def __init__(self, board: Board, feeder: Feeder, inbox: Inbox[FromTrial], until: float) -> None:
        self.board, self.driver, self.feeder = board, board.driver, feeder
        self.inbox, self.until = inbox, until
        self.asked: set[str] = set()
        """Trials that were asked to stop because the sweep closes."""

    def take(self, last: bool) -> list[FromTrial]:
        """Hand the board all that came; nothing is left for other listeners."""
        if not self.driver.closing and time.monotonic() > self.until:
            say("the hours of --max-hours are over: the trials stop at their next step")
            self.driver.closing = "the hours of the sweep were over"
        for record in self.driver.running if self.driver.closing else ():
            if record.name not in self.asked:  # also those that started meanwhile
                self.board.stop(record.name)
                self.asked.add(record.name)
        over = [*self.feeder.over]
        for event in self.inbox(last or bool(over)):
            self.board.on_event(event)
        for attempt in over:
            self.board.lost(self.feeder.attempts[attempt], attempt)
            self.feeder.over.popleft()  # now: who waits for that asks for the next trial
        self.board.track_unfit()
        return []

    def on_signal(self, number: int) -> None:
        """The first one asks the trials for a checkpoint.

        Raises:
            Interrupted: at the second.
        """
        if number > 1:
            raise Interrupted
        say("stopping: the trials finish their step and write a checkpoint (again to end at once)")
        self.board.is_interrupted = True
        self.driver.closing = "a person stopped the sweep"


def run_trials(board: Board, preset_name: str, most: int, until: float) -> None:
    """Run what the driver says to the end.

    Args:
        board: hears the trials.
        preset_name: what they start from.
        most: trials at a time; 0: as many as there is room for.
        until: when no more time is left, by the monotonic clock.

    Raises:
        Interrupted: a person stopped it; the trials wait to be gone on with.
    """
    mailbox = remote_mailbox()
    feeder = Feeder(board.driver, Room(board.run.config, most))
    listener = Listener(board, feeder, Inbox[FromTrial](mailbox), until)
    board.stop = lambda name: mailbox.request_stop.remote(name)
    tuner = Background("tuner")
    with counted_signals() as signals, tuner.ended():
        tuner.start(lambda: tuner_of(board, feeder, preset_name, mailbox).fit())
        watch(tuner, listener.take, [], signals, listener.on_signal)
        tuner.result()
    if board.is_interrupted:
        raise Interrupted


def tuner_of(board: Board, feeder: Feeder, preset_name: str, mailbox: Any) -> Any:
    """Tune with the feeder as its search."""
    from ray import tune

    path, filesystem = storage.for_ray(board.run.uri)
    trainable = functools.partial(
        run_trial,
        config=board.run.config,
        preset_name=preset_name,
        mailbox=mailbox,
        sweep=board.run.uri,
    )
    return tune.Tuner(
        # A trial's own driver takes no CPU: on a small cluster that would be one too few for its
        # workers, who would wait for ever. Tune wants it to take something.
        tune.with_resources(
            trainable, tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
        ),
        # The process of a trial that is over takes the next one: a new one imports for seconds.
        tune_config=tune.TuneConfig(search_alg=feeder, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            # Of each driver of a sweep its own.
            name=f"tune/{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}",
            storage_path=path,
            storage_filesystem=filesystem,
            verbose=0,
        ),
    )
