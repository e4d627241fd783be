"""What goes wrong around a training, on purpose: it must cost time and nothing else.

Each test disturbs a small training as `apdist` commands in processes of their own, and prints a
row: disturbance, outcome, seconds lost, steps replayed. Afterwards the losses are those of the
undisturbed run, every step and every evaluation is there once, in order, in metrics.jsonl, in the
database of MLflow and in what a report reads, and nothing is left over: no process, no temporary
file, no lease.
"""

import json
import random
import re
import shutil
import signal
import subprocess
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
from apdist.training.run_folder.runs import evaluation_name, open_run
from apdist_verbs.__main__ import main
from tests.faulty_proxy import faulty_proxy
from tests.mlflow_server import MlflowServer, Tracked, mlflow_server
from tests.pictures import write_folder
from tests.pipelines.test_cluster import Command, Place, processes_left
from tests.ray_nodes import RayNodes, environment, ray_nodes
from tests.s3_server import S3Server, s3_server
from tests.training.run_folder.test_checkpoint import damage

STEPS, EVERY = 30, 5
OPTIONS = [
    *("--data.image-size", "32", "--data.group-size", "4", "--data.loader-processes", "0"),
    *("--training.batch-size", "64", "--training.chunk-size", "8"),
    *("--training.steps", str(STEPS), "--training.learning-rate", "2e-5"),
    *("--evaluation.every-steps", str(EVERY), "--checkpoint.every-steps", str(EVERY)),
    *("--ray.restarts-per-hour", "3"),
]
DEADLINE_S = 8
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.s3, pytest.mark.timeout(600)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


@dataclass(frozen=True)
class World:
    """A machine with shards, a folder for runs, and a server that tracks them."""

    place: Place
    mlflow: MlflowServer

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


@pytest.fixture(scope="module")
def mlflow() -> Iterator[MlflowServer]:
    with mlflow_server() as server:
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow: MlflowServer) -> World:
    folder = tmp_path_factory.mktemp("world")
    write_folder(folder / "pictures", {f"class {label:02}": 6 for label in range(20)})
    place = Place(folder, {**environment(folder), "OMP_NUM_THREADS": "1"})
    place.succeed("prepare", "folder", "pictures", "--out", "shards")
    return World(place, mlflow)


@pytest.fixture
def up(world: World) -> World:
    """With a server that answers, whatever the test before did to it."""
    if world.mlflow.process is None:
        world.mlflow.start()
    return world


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    folder = tmp_path_factory.mktemp("nodes")
    with ray_nodes(environment(folder), folder / "log.txt") as cluster:
        yield cluster


@dataclass(frozen=True)
class Undisturbed:
    """What every disturbed run is compared with."""

    losses: list[float]
    maps: list[float]


def undisturbed(world: World, name: str, *more: str, workers: int = 0) -> Undisturbed:
    world.place.succeed(*world.begin(name, *more, workers=workers))
    run = open_run(str(world.runs / name))
    losses = [event.figures["loss"] for event in run.of_kind(StepDone)]
    expected = Undisturbed(losses, [e.figures["map"] for e in run.of_kind(Evaluated)])
    check(world, Trial(name), expected)
    assert len(set(losses)) == STEPS  # not everything would pass
    return expected


@pytest.fixture(scope="module")
def alone(world: World) -> Undisturbed:
    """The training in one process."""
    return undisturbed(world, "alone")


@pytest.fixture(scope="module")
def two_workers(world: World, nodes: RayNodes) -> Undisturbed:
    """The training on two workers."""
    return undisturbed(world, "two", "--ray.address", nodes.address, workers=2)


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
    check_nothing_left(trial, uri)


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


def check_nothing_left(trial: Trial, uri: str) -> None:
    assert not processes_left(trial.mark)
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
    """Print the row of a disturbance."""
    lost = sum(e.seconds_lost for e in open_run(trial.uri(world)).of_kind(Restarted))
    print(f"\n| {disturbance} | {outcome} | {lost:.1f} | {trial.replayed} |")


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


# ---- the driver is killed


def test_a_driver_that_is_killed_at_any_step_costs_nothing_but_time(
    up: World, alone: Undisturbed
) -> None:
    draw = random.Random(int(time.time()))
    moments = sorted(draw.sample(range(1, STEPS), 3))
    trial = killed(up, "killed", moments[0])
    for moment in moments[1:]:
        killed_again(up, trial, moment)
    trial.resumed(up)
    check(up, trial, alone)
    tell(up, trial, f"driver killed at steps {moments}, local disk", "resumed three times")


@pytest.fixture
def on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3


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


def test_a_driver_that_is_killed_on_s3_costs_nothing_but_time(
    up: World, alone: Undisturbed, on_s3: S3Server
) -> None:
    draw = random.Random(int(time.time()))
    place = s3_place(up, on_s3.endpoint, on_s3)
    trial = Trial("killed on s3", f"s3://{on_s3.bucket}/runs")
    arguments = up.begin(trial.name, "--run.output", trial.root)
    for number, step in enumerate((5, 15)):
        again = ["train", "--resume", trial.uri(up)]
        with trial.started(place, *(again if number else arguments)) as command:
            wait_for_object(command, on_s3, trial, marker(step))
            time.sleep(draw.random())
            command.process.kill()
            command.process.wait()
    trial.resumed(up, place)
    check(up, trial, alone)
    tell(up, trial, "driver killed after the checkpoints 5 and 15, S3", "resumed twice")


def test_a_driver_that_is_killed_while_its_workers_live_on(
    up: World, nodes: RayNodes, two_workers: Undisturbed
) -> None:
    trial = Trial("driver of two")
    arguments = up.begin(trial.name, "--ray.address", nodes.address, workers=2)
    with trial.started(up.place, *arguments) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        assert len(nodes.workers()) == 2
        command.process.kill()
        command.process.wait()
    trial.resumed(up)
    check(up, trial, two_workers)
    assert nodes.workers() == []
    tell(up, trial, "driver killed, two workers on a cluster live on", "resumed at once")


def test_a_run_goes_on_with_another_number_of_workers(
    up: World, nodes: RayNodes, two_workers: Undisturbed
) -> None:
    trial = killed(up, "fewer", 12)
    trial.resumed(up, None, "--ray.address", nodes.address, "--ray.num-workers", "2")
    check(up, trial, two_workers, exact=False)
    tell(up, trial, "driver killed, resumed with two workers in place of none", "equal to 1e-5")


# ---- a worker is killed


@pytest.mark.parametrize(("after", "start"), [(2, 0), (13, 10)], ids=["before", "after"])
def test_a_worker_that_is_killed_is_told_and_costs_nothing_but_time(
    up: World, nodes: RayNodes, two_workers: Undisturbed, after: int, start: int
) -> None:
    trial = Trial(f"worker after {after}")
    every = ["--checkpoint.every-steps", "10", "--ray.address", nodes.address]
    with trial.started(up.place, *up.begin(trial.name, *every, workers=2)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= after)
        nodes.workers()[0].kill()
        seen = last_step(trial.uri(up))
        code, out, err = command.end()
    is_whole(code, out, err)
    trial.replayed = seen - start
    check(up, trial, two_workers)
    (event,) = open_run(trial.uri(up)).of_kind(Restarted)
    assert (event.step, event.restarts_left) == (start, 2)
    said = " ".join((out + err).split())
    # How it died, Ray does not always know; and its neighbour may be heard first.
    cause = "(its process was killed|its process died|it lost the connection to another worker)"
    assert re.search(f"worker \\d on .*: {cause}; went on from step {start},", said)
    tags = up.tracked(trial.name).tags
    assert tags[f"apdist.restart.{event.happened_ms}"] == str(event)
    when = "before the first checkpoint" if start == 0 else "after a checkpoint"
    tell(up, trial, f"worker killed {when}", f"went on from step {start} by itself")


# ---- two at once, a stop, a halt


def test_of_two_resumes_at_once_one_is_refused(up: World, alone: Undisturbed) -> None:
    trial = killed(up, "wanted", 7)
    again = ["train", "--resume", trial.uri(up), "--evaluation.batch-size"]
    with (
        trial.started(up.place, *again, "16") as one,
        trial.started(up.place, *again, "32") as other,
    ):
        ends = [one.end(), other.end()]
    (refused,) = [end for end in ends if end[0] != 0]
    assert sorted(end[0] for end in ends) == [0, 2], ends
    assert re.search(r"is being trained by process \d+ on .* since ", in_one_line(refused[2]))
    winner = "16" if ends[0][0] == 0 else "32"
    assert open_run(trial.uri(up)).config.evaluation.batch_size == int(winner)
    trial.replayed = 2
    check(up, trial, alone)
    tell(up, trial, "two resumes at once", "one refused with who trains since when")


@pytest.mark.parametrize("step", [EVERY - 1, STEPS - 1], ids=["evaluation", "last"])
def test_a_stop_at_an_evaluation_or_the_last_step_leaves_nothing_out(
    up: World, alone: Undisturbed, step: int
) -> None:
    trial = Trial(f"stopped at {step}")
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= step)
        command.process.send_signal(signal.SIGINT)
        code, out, err = command.end()
    run = open_run(trial.uri(up))
    done, stopped = run.steps_done, not run.is_complete
    assert code == (130 if stopped else 0), f"{out}\n{err}"
    assert (f"stopped after step {done}; go on with" in out) == stopped
    assert up.tracked(trial.name).status == ("KILLED" if stopped else "FINISHED")
    evaluated = [event.step for event in open_run(trial.uri(up)).of_kind(Evaluated)]
    assert evaluated == list(range(0, done + 1, EVERY))
    trial.resumed(up)
    check(up, trial, alone)
    tell(up, trial, f"Ctrl-C at step {step}", "evaluated, saved; resumed")


def elsewhere() -> tuple[str, ...]:
    """Begins a command line that runs under another host name: for a lease another machine."""
    for namespaces in (["--uts"], ["--user", "--map-root-user", "--uts"]):
        prefix = ("unshare", *namespaces, "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
        try:
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return prefix
        except OSError:
            break
    pytest.skip("no namespace with another host name can be made here")


def test_a_driver_that_is_halted_for_longer_than_its_lease_writes_nothing_more(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("halted")
    other = replace(up.place, before=elsewhere())
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        with halted(command):
            started = time.monotonic()
            said = trial.resumed(up, other)
            waited = time.monotonic() - started
            before = contents(Path(trial.uri(up)))
        code, out, err = command.end()
    assert "s for a sign of life" in said
    assert code == 2, f"{out}\n{err}"
    assert re.search(r"was taken over by .*; this one writes nothing more", in_one_line(err))
    assert contents(Path(trial.uri(up))) == before
    check(up, trial, alone)
    tell(up, trial, "driver halted, another machine takes over", f"taken over, {waited:.0f} s")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the tracking server is away


def test_a_tracking_server_that_is_away_at_the_start_gets_everything(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("away at the start")
    up.mlflow.kill()
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        with halted(command):
            up.mlflow.start()
        code, out, err = command.end()
    is_whole(code, out, err)
    assert err.count("does not answer") == 1
    check(up, trial, alone)
    tell(up, trial, "tracking server away at the start", "one warning; all is sent")


def test_a_tracking_server_that_is_killed_five_times_gets_everything(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("killed five times")
    with trial.started(up.place, *up.begin(trial.name)) as command:
        for step in (4, 8, 13, 18, 24):
            command.wait_until(lambda step=step: last_step(trial.uri(up)) >= step)
            up.mlflow.kill()
            command.wait_until(lambda step=step: last_step(trial.uri(up)) >= step + 2)
            with halted(command):
                up.mlflow.start()
        code, out, err = command.end()
    is_whole(code, out, err)
    check(up, trial, alone)
    tell(up, trial, "tracking server killed and restarted five times", "all is sent")


def test_a_tracking_server_that_is_away_at_the_end_and_at_a_resume_gets_everything_later(
    up: World, alone: Undisturbed
) -> None:
    trial = killed(up, "away at the end", 12)
    up.mlflow.kill()
    said = trial.resumed(up)
    assert "MLflow lacks a part of this run; later: apdist track" in said
    code, _, err = up.place.run("track", trial.uri(up))
    assert code == 2
    assert in_one_line(err).endswith("does not answer; try again when it does")
    up.mlflow.start()
    assert up.tracked(trial.name).status == "RUNNING"
    assert "has all" in up.place.succeed("track", trial.uri(up))
    check(up, trial, alone)
    tell(up, trial, "tracking server away at a resume and at the end", "sent by apdist track")


# ---- the disk is full


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    path = world.place.folder / "small disk"
    path.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only who may mount a disk in memory can fill one up")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; returns what has to be deleted to make some."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def filled_up(world: World, trial: Trial, disk: Path, step: int) -> tuple[Path, int, str, str]:
    """Train until the checkpoint ``step`` is there and no room; the ballast, and how it ended."""
    arguments = world.begin(trial.name, "--run.output", trial.root)
    with trial.started(world.place, *arguments) as command:
        command.wait_until(lambda: last_step(trial.uri(world)) >= step - 3)
        run = trial.uri(world)
        while command.process.poll() is None and not is_valid(run, step):
            time.sleep(0.005)
            command.process.send_signal(signal.SIGSTOP)  # between two looks it cannot go far
            if is_valid(run, step):
                break
            command.process.send_signal(signal.SIGCONT)
        ballast = fill(disk)
        command.process.send_signal(signal.SIGCONT)
        return ballast, *command.end()


@pytest.mark.parametrize("step", [EVERY, STEPS], ids=["checkpoint", "finish"])
def test_a_full_disk_ends_a_run_in_a_line_and_it_goes_on_when_there_is_room(
    up: World, alone: Undisturbed, small_disk: Path, step: int
) -> None:
    for attempt in range(5):  # on a busy machine it may be through before the disk is full
        trial = Trial(f"full after {step}, {attempt}", str(small_disk))
        ballast, code, out, err = filled_up(up, trial, small_disk, step)
        if code or step != STEPS:
            break
        ballast.unlink()
    assert code == 2, f"{out}\n{err}"
    assert "No space left on device" in in_one_line(err)
    assert "make room" in err
    assert up.tracked(trial.name).status == "FAILED"
    ballast.unlink()
    trial.resumed(up)
    check(up, trial, alone)
    when = "while checkpointing" if step == EVERY else "while finishing"
    tell(up, trial, f"disk full {when}", "ends in a line; resumed when there was room")


# ---- a checkpoint is damaged


@pytest.fixture(scope="module")
def stopped(world: World, alone: Undisturbed) -> Path:
    """A run with the checkpoints 10 and 15; each test takes a copy."""
    if world.mlflow.process is None:
        world.mlflow.start()
    trial = killed(world, "damaged", 18)
    assert not is_valid(trial.uri(world), 20)
    return Path(trial.uri(world))


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed"])
@pytest.mark.parametrize("file", ["state", "marker", "history"])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    world: World,
    alone: Undisturbed,
    stopped: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    file: str,
    how: str,
) -> None:
    trial = Trial(f"{file} {how}")
    run = Path(trial.uri(world))
    shutil.copytree(stopped, run)
    checkpoint = run / "checkpoints" / "step-0000000015"
    (state,), place = checkpoint.glob("state-*"), next(checkpoint.glob("meta-*"))
    (page,) = json.loads(place.read_text())["history"]
    damage({"state": state, "marker": place, "history": run / "history" / page}[file], how)
    trial.replayed = last_step(str(run)) - 10
    assert main(["train", "--resume", str(run), "--tracking.no-enabled"]) == 0
    told = " ".join([caplog.text, *capfd.readouterr()])
    said = " ".join(told.split())
    assert "going on from step 10" in said
    # A folder without a marker is no damage: that checkpoint was never finished.
    assert ("passed over a damaged" in said) == ((file, how) != ("marker", "removed"))
    check(world, trial, alone, tracked=False)
    tell(world, trial, f"{file} of the newest checkpoint {how}", "passed over, said")


# ---- storage is away


@pytest.mark.parametrize("begins", ["checkpoint", "evaluation"])
def test_storage_that_is_away_for_seconds_is_waited_for(
    up: World, alone: Undisturbed, on_s3: S3Server, begins: str
) -> None:
    trial = Trial(f"away during {begins}", f"s3://{on_s3.bucket}/runs")
    with faulty_proxy(on_s3.endpoint) as proxy:
        place = s3_place(up, proxy.endpoint, on_s3)
        arguments = up.begin(trial.name, "--run.output", trial.root)
        with trial.started(place, *arguments) as command:
            # An evaluation begins with a checkpoint; after its scores a checkpoint comes next.
            scores = evaluation_name("test", 5)
            first = scores if begins == "checkpoint" else marker(5)
            wait_for_object(command, on_s3, trial, first)
            proxy.refuse()
            time.sleep(6)
            proxy.listen()
            code, out, err = command.end()
    is_whole(code, out, err)
    check(up, trial, alone)
    tell(up, trial, f"storage away during {begins}, 6 s", "waited for")


def test_storage_that_stays_away_ends_a_run_in_a_line_and_it_goes_on_when_it_is_back(
    up: World, alone: Undisturbed, on_s3: S3Server
) -> None:
    trial = Trial("away for long", f"s3://{on_s3.bucket}/runs")
    with faulty_proxy(on_s3.endpoint) as proxy:
        place = s3_place(up, proxy.endpoint, on_s3)
        # Where the worker's own threads read, the deadline is that of all it does on storage.
        patience = ["--data.read-deadline-s", str(DEADLINE_S)]
        arguments = up.begin(trial.name, "--run.output", trial.root, *patience)
        with trial.started(place, *arguments) as command:
            wait_for_object(command, on_s3, trial, marker(5))
            proxy.refuse()
            started = time.monotonic()
            code, out, err = command.end()
        waited = time.monotonic() - started
        assert code == 2, f"{out}\n{err}"
        assert re.search(r"s3://.*: gave up after .* \(deadline 8 s\)", in_one_line(err))
        assert waited < DEADLINE_S + 45
        assert up.tracked(trial.name).status == "FAILED"
        proxy.listen()
        trial.resumed(up, place)
    check(up, trial, alone)
    tell(up, trial, "storage away for longer than its deadline", f"ends after {waited:.0f} s")


# ---- a sweep


SPACE = """
["training.learning_rate"]
distribution = "loguniform"
low = 1e-5
high = 1e-4
"""


def test_a_sweep_goes_on_while_its_tracking_server_is_away(up: World, nodes: RayNodes) -> None:
    (up.place.folder / "space.toml").write_text(SPACE)
    begin = up.begin("search", "--training.steps", "10", "--ray.address", nodes.address, workers=1)
    more = ["--space", "space.toml", "--trials", "3", "--scheduler", "none"]
    sweep = up.runs / "search"
    trial = Trial("search")
    arguments = ["sweep", *begin[1:], *more, "--max-concurrent", "1"]
    with trial.started(up.place, *arguments) as command:
        command.wait_until(lambda: any(last_step(str(path)) >= 2 for path in trials_of(sweep)))
        up.mlflow.kill()
        code, out, err = command.end()
    is_whole(code, out, err)
    up.mlflow.start()
    assert len(trials_of(sweep)) == 3
    for path in trials_of(sweep):
        up.place.succeed("track", str(path))
        found = up.tracked(path.name)
        assert found.status == "FINISHED"
        assert found.steps("train/loss") == list(range(1, 11))
        assert found.steps("eval/map") == [0, 5, 10]
    assert not processes_left(trial.mark)
    print("\n| tracking server away between trials | the sweep went on | 0.0 | 0 |")


def trials_of(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/config.json"))
