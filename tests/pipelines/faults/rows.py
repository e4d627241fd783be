"""Rows of the table of faults: a small training is disturbed, and what has to be true after it.

Each test disturbs a training as `apdist` commands in processes of their own, and prints a row:
disturbance, outcome, seconds lost, steps replayed, what was lost. Afterwards the losses are those
of the undisturbed run, every step and every evaluation is there once, in order, in metrics.jsonl,
in the database of MLflow and in what a report reads, and nothing is left over: no process (and so
no port), no temporary file, no folder of a session of Ray, no lease.
"""

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.training.events import Evaluated, Restarted, StepDone
from apdist.training.run_folder.lease import holder_of
from apdist.training.run_folder.runs import open_run
from tests.mlflow_server import MlflowServer, Tracked
from tests.pipelines.test_cluster import Command, Place, processes_left
from tests.s3_server import S3Server

STEPS, EVERY = 30, 5
OPTIONS = [
    *("--data.image-size", "32", "--data.group-size", "4", "--data.loader-processes", "0"),
    *("--training.batch-size", "64", "--training.chunk-size", "8"),
    *("--training.steps", str(STEPS), "--training.learning-rate", "2e-5"),
    *("--evaluation.every-steps", str(EVERY), "--checkpoint.every-steps", str(EVERY)),
    *("--ray.restarts-per-hour", "3"),
]


@dataclass(frozen=True)
class World:
    """A machine with shards, a folder for runs, and a server that tracks them."""

    place: Place
    mlflow: MlflowServer
    temporary: Path
    """Where processes put temporary files, and a Ray of their own its sessions."""

    @property
    def runs(self) -> Path:
        return self.place.folder / "runs"

    def begin(self, name: str, *more: str, workers: int = 0) -> list[str]:
        """The arguments of a training; later options win."""
        where = ["--data.shards", "shards", "--run.output", "runs", "--run.name", name]
        tracking = ["--tracking.uri", self.mlflow.uri, "--ray.num-workers", str(workers)]
        return ["train", "glyphs", *OPTIONS, *where, *tracking, *more]

    def tracked(self, name: str) -> Tracked:
        (found,) = self.mlflow.tracked(name)
        return found

    def left_over(self) -> list[Path]:
        """Temporary files and sessions of Ray."""
        return [*self.temporary.glob("tmp/*"), *self.temporary.glob("ray/session_*")]


@dataclass(frozen=True)
class Undisturbed:
    """What every disturbed run is compared with."""

    losses: list[float]
    maps: list[float]
    seconds: float
    """From the start of the command to its end."""


def undisturbed(world: World, name: str, *more: str, workers: int = 0) -> Undisturbed:
    trial, began = Trial(name), time.monotonic()
    with trial.started(world.place, *world.begin(name, *more, workers=workers)) as command:
        is_whole(*command.end())
    seconds = time.monotonic() - began
    run = open_run(str(world.runs / name))
    losses = [event.figures["loss"] for event in run.of_kind(StepDone)]
    maps = [event.figures["map"] for event in run.of_kind(Evaluated)]
    expected = Undisturbed(losses, maps, seconds)
    check(world, trial, expected)
    assert len(set(losses)) == STEPS  # not everything would pass
    return expected


@dataclass(frozen=True)
class Fault:
    """What disturbs a step of one worker from within, see `in_worker/sitecustomize.py`."""

    kind: str
    file: Path
    """Is made when it happens."""
    step: int = 13
    """Steps done by then."""
    rank: int = 1

    def environment(self) -> dict[str, str]:
        """For the processes of the run."""
        paths = [str(Path(__file__).parent / "in_worker"), os.environ.get("PYTHONPATH", "")]
        told = f"{self.kind} {self.rank} {self.step} {self.file}"
        return {"PYTHONPATH": os.pathsep.join(paths), "APDIST_TEST_FAULT": told}

    def place(self, place: Place, before: tuple[str, ...] = (), **more: str) -> Place:
        """Where it happens."""
        environment = {**place.environment, **self.environment(), **more}
        return replace(place, environment=environment, before=before)

    @property
    def time_s(self) -> float:
        """When it happened."""
        return self.file.stat().st_mtime


@dataclass
class Trial:
    """A run that is disturbed, and what that cost."""

    name: str
    root: str = ""
    """Where runs lie; empty: on the disk of the world."""
    replayed: int = 0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def uri(self, world: World) -> str:
        return storage.join(self.root or str(world.runs), self.name)

    @contextmanager
    def started(self, place: Place, *arguments: str) -> Iterator[Command]:
        with place.started(*arguments, APDIST_TEST_MARK=self.mark) as command:
            yield command

    def resumed(self, world: World, place: Place | None = None, *more: str) -> str:
        """Resume to the end; counts the steps that are done again."""
        before = last_step(self.uri(world))
        arguments = ("train", "--resume", self.uri(world), *more)
        with self.started(place or world.place, *arguments) as command:
            code, out, err = command.end()
        assert code == 0, f"{out}\n{err}"
        begun = re.findall(r"going on from step (\d+)", out)
        if "has done all its" not in out:
            self.replayed += max(0, before - int((begun or ["0"])[0]))
        return out + err


def last_step(run: str) -> int:
    """The last step that metrics.jsonl tells; a line may be half written."""
    try:
        text = storage.read_bytes(storage.join(run, "metrics.jsonl")).decode()
    except storage.StorageError:
        return 0
    steps = re.findall(r'"kind": "step", "step": (\d+)', text)
    return int(steps[-1]) if steps else 0


def check(
    world: World, trial: Trial, expected: Undisturbed, *, tracked: bool = True, exact: bool = True
) -> None:
    """Compare a run that has come to its end with the undisturbed one, in all three places."""
    uri = trial.uri(world)
    run = open_run(uri)  # what a report reads
    lines = storage.read_bytes(storage.join(uri, "metrics.jsonl")).decode().splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event for event in events if event["kind"] == "step"]
    evaluations = [event for event in events if event["kind"] == "evaluation"]
    same([e["step"] for e in steps], [e["loss"] for e in steps], expected.losses, exact, first=1)
    evaluated = [event["step"] // EVERY for event in evaluations]
    same(evaluated, [event["map"] for event in evaluations], expected.maps, exact, first=0)
    assert [event["step"] for event in events] == sorted(event["step"] for event in events)
    assert [event.step for event in run.of_kind(StepDone)] == [event["step"] for event in steps]
    assert [e.step for e in run.of_kind(Evaluated)] == [e["step"] for e in evaluations]
    assert len(run.history) == len(events)
    if tracked:
        check_tracked(world.tracked(trial.name), expected, exact)
    check_nothing_left(world, trial, uri)


def same(
    steps: Sequence[int],
    values: Sequence[float],
    expected: Sequence[float],
    exact: bool,
    first: int,
) -> None:
    assert list(steps) == list(range(first, first + len(expected)))
    if exact:
        assert list(values) == list(expected)
    else:  # another number of workers: the sums are taken in another order
        assert values[:20] == pytest.approx(expected[:20], rel=1e-5)


def check_tracked(found: Tracked, expected: Undisturbed, exact: bool) -> None:
    assert found.status == "FINISHED"
    losses, maps = found.points["train/loss"], found.points["eval/map"]
    same([s for s, _ in losses], [v for _, v in losses], expected.losses, exact, first=1)
    same([s // EVERY for s, _ in maps], [v for _, v in maps], expected.maps, exact, first=0)
    for name in found.points:  # of the other figures some are missing where there is no value
        assert len(found.steps(name)) == len(set(found.steps(name))), name


def without_repeats(found: Tracked, at: int) -> Tracked:
    """``found`` without what the request on its way when its sender was halted brought twice.

    Args:
        found: what the store has.
        at: step at which it was halted, as far as others could see; a request has some steps.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for name, rows in found.points.items():
        once: dict[int, float] = {}
        for step, value in rows:
            is_one_request = at - EVERY < step <= at + 1
            assert step not in once or is_one_request, f"{name} of step {step} is there twice"
            # Times differ; what was computed does not.
            assert step not in once or name != "train/loss" or once[step] == value
            once.setdefault(step, value)
        points[name] = list(once.items())
    return replace(found, points=points)


def check_nothing_left(world: World, trial: Trial, uri: str) -> None:
    assert not processes_left(trial.mark)
    assert world.left_over() == []
    assert holder_of(uri) is None
    leases = storage.list_files(storage.join(uri, "writer"))
    assert len(leases) == 1
    assert json.loads(storage.read_bytes(storage.join(uri, f"writer/{leases[0]}")))["released"]
    names = storage.list_folders(storage.join(uri, "checkpoints"))
    files = [storage.list_files(storage.join(uri, f"checkpoints/{name}")) for name in names]
    # An S3 server may go on to list a folder that is empty.
    assert [len(inside) for inside in files if inside] == [2, 2]
    if (path := storage.local_path(uri)) is not None:
        assert not list(path.rglob("*.tmp"))


def tell(world: World, trial: Trial, disturbance: str, outcome: str) -> None:
    """Print the row of a disturbance, of a run that `check` has found whole."""
    lost = sum(e.seconds_lost for e in open_run(trial.uri(world)).of_kind(Restarted))
    load = os.getloadavg()[0]
    print(f"\n| {disturbance} | {outcome} | {lost:.1f} | {trial.replayed} | nothing | {load:.1f} |")


def when(event: Restarted, since_s: float) -> str:
    """How long after ``since_s`` a failure was seen, and how long until the run went on."""
    seen, on = event.happened_ms / 1000 - since_s, event.time_ms / 1000 - since_s
    return f"seen after {seen:.1f} s, went on after {on:.1f} s"


def is_whole(code: int, out: str, err: str) -> None:
    assert code == 0, f"{out}\n{err}"


def in_one_line(err: str) -> str:
    """The error that a command ended with; before it only warnings."""
    *before, last = err.strip().splitlines()
    assert all("Traceback" not in line and not line.startswith("apdist:") for line in before), err
    assert last.startswith("apdist: "), err
    return last


def killed(world: World, name: str, step: int) -> Trial:
    """A run whose process is killed when ``step`` is told."""
    trial = Trial(name)
    with trial.started(world.place, *world.begin(name)) as command:
        command.wait_until(lambda: last_step(trial.uri(world)) >= step)
        command.process.kill()
        command.process.wait()
    return trial


def killed_again(world: World, trial: Trial, step: int) -> None:
    """Resume, and kill when ``step`` is told."""
    before = last_step(trial.uri(world))
    seen = Path(trial.uri(world), "metrics.jsonl")
    old = seen.stat().st_ino

    def is_there() -> bool:  # the file is a new one as soon as the resumed run has begun
        return seen.stat().st_ino != old and last_step(trial.uri(world)) >= step

    with trial.started(world.place, "train", "--resume", trial.uri(world)) as command:
        command.wait_until(is_there)
        command.process.kill()
        command.process.wait()
    trial.replayed += before % EVERY


@contextmanager
def halted(command: Command) -> Iterator[None]:
    """The process stands still during the block, as on a machine that swaps or sleeps."""
    command.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        command.process.send_signal(signal.SIGCONT)


def s3_place(world: World, endpoint: str, s3: S3Server) -> Place:
    more = {**s3.environment(), "AWS_ENDPOINT_URL": endpoint}
    return replace(world.place, environment={**world.place.environment, **more})


def wait_for_object(command: Command, s3: S3Server, trial: Trial, name: str) -> None:
    folder = f"runs/{trial.name}/"
    command.wait_until(lambda: any(found.startswith(name) for found in s3.names(folder)))


def marker(step: int) -> str:
    """How its path begins; the rest is the number of the writer."""
    return f"checkpoints/step-{step:010}/meta-"


def is_valid(run: str, step: int) -> bool:
    return any(Path(run).glob(f"{marker(step)}*"))
