"""Training on Ray as a person starts it: here, on a cluster from outside, with faults, on S3.

Each test runs the `apdist` command in a process of its own, but for what needs no Ray. All
trainings share data, options and seed, so that their loss curves must agree: with the same number
of workers to the last bit, with another one but for rounding, which training amplifies step by step
(so the learning rate is low).
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from apdist.training.run_folder.runs import evaluation_name
from apdist_verbs.__main__ import main
from tests.pictures import write_folder
from tests.ray_nodes import RayNodes, environment, ray_nodes
from tests.s3_server import S3Server, s3_server

STEPS = 60
OPTIONS = [
    *("--data.image-size", "16", "--data.group-size", "4"),
    *("--training.batch-size", "32", "--training.chunk-size", "8"),
    *("--training.steps", str(STEPS), "--training.learning-rate", "2e-5"),
    *("--evaluation.every-steps", "30", "--checkpoint.every-steps", "5"),
    *("--ray.restarts-per-hour", "3", "--tracking.no-enabled"),
]
TIMEOUT_S = 280
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(TIMEOUT_S + 20),
    pytest.mark.filterwarnings("ignore"),  # of libraries that a training imports
]


@dataclass
class Place:
    """Where a command runs, and what it finds there."""

    folder: Path
    environment: Mapping[str, str]
    before: tuple[str, ...] = ()
    """Begins the command line, as `unshare` does."""

    @contextmanager
    def started(self, *arguments: str, **more: str) -> Iterator["Command"]:
        """`apdist ARGUMENTS` in a session of its own, as under a terminal; ends with the block."""
        process = subprocess.Popen(
            [*self.before, sys.executable, "-m", "apdist_verbs", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield Command(process)
            finally:
                process.kill()

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Exit code, output and errors of `apdist ARGUMENTS`."""
        with self.started(*arguments, **more) as command:
            return command.end()

    def succeed(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        code, out, err = self.run(*arguments)
        assert code == 0, f"{out}\n{err}"
        return out


@dataclass(frozen=True)
class Command:
    """An `apdist` that runs."""

    process: subprocess.Popen[str]

    def first_line(self) -> str:
        """What it says first."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, output and errors."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out, err

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds; fail if the command or the time is over first."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.05)


@dataclass(frozen=True)
class Trained:
    """What a run left behind."""

    history: list[dict[str, Any]]
    weights: dict[str, Tensor]

    @property
    def steps(self) -> list[int]:
        return [event["step"] for event in self.history if event["kind"] == "step"]

    @property
    def losses(self) -> list[float]:
        return [event["loss"] for event in self.history if event["kind"] == "step"]

    @property
    def evaluated(self) -> list[int]:
        return [event["step"] for event in self.history if event["kind"] == "evaluation"]


def read_run(read: Callable[[str], bytes]) -> Trained:
    """A run's history and weights; ``read`` takes the name of a file."""
    lines = read("metrics.jsonl").decode().splitlines()
    return Trained([json.loads(line) for line in lines], load(read("model.safetensors")))


def local_run(run: Path) -> Trained:
    return read_run(lambda name: (run / name).read_bytes())


def equal_weights(one: Trained, other: Trained) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        bool((one.weights[name] == other.weights[name]).all()) for name in one.weights
    )


def same_but_for_rounding(losses: list[float], expected: list[float]) -> None:
    """Measured: 4e-7 in the first 20 steps, 2e-4 in all 60."""
    assert losses[:20] == pytest.approx(expected[:20], rel=1e-5)
    assert losses == pytest.approx(expected, rel=2e-3)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """This machine, with pictures and shards and a home directory of its own."""
    folder = tmp_path_factory.mktemp("here")
    write_folder(folder / "pictures", {f"class {label:02}": 6 for label in range(20)})
    # Threads that wait for each other on busy cores make a step of milliseconds take seconds.
    with tempfile.TemporaryDirectory(prefix="ray") as sessions:  # a short name
        own = {"HOME": tempfile.mkdtemp(dir=folder), "RAY_TMPDIR": sessions}
        place = Place(folder, {**own, "OMP_NUM_THREADS": "1"})
        prepare = ["prepare", "folder", str(folder / "pictures")]
        assert main([*prepare, "--out", f"{folder}/shards"]) == 0
        yield place


def sessions_left(here: Place) -> list[str]:
    """What ended Rays of this machine have left of themselves."""
    return [path.name for path in Path(here.environment["RAY_TMPDIR"]).glob("ray/session_*")]


def train(name: str, *more: str) -> list[str]:
    """The arguments of a training on local shards; later options win."""
    where = ["--data.shards", "shards", "--run.output", "runs", "--run.name", name]
    return ["train", "glyphs", *OPTIONS, *where, *more]


@pytest.fixture(scope="module")
def in_process(here: Place) -> Trained:
    """The training without Ray."""
    torch.set_num_threads(1)
    where = ["--data.shards", f"{here.folder}/shards", "--run.output", f"{here.folder}/runs"]
    assert main(train("in process", "--ray.num-workers", "0", *where)) == 0
    return local_run(here.folder / "runs/in process")


@pytest.fixture(scope="module")
def two_workers(here: Place) -> Trained:
    """The training on two workers of a local Ray, undisturbed."""
    here.succeed(*train("two workers"))
    return local_run(here.folder / "runs/two workers")


def test_two_workers_draw_the_same_loss_curve_as_one_process(
    here: Place, in_process: Trained, two_workers: Trained
) -> None:
    assert not sessions_left(here)
    assert two_workers.steps == list(range(1, STEPS + 1))
    assert two_workers.evaluated == [0, 30, 60]
    same_but_for_rounding(two_workers.losses, in_process.losses)
    assert len(set(in_process.losses)) > STEPS / 2  # the batches differ: not everything would pass


def test_more_workers_than_cpus_are_refused_at_once_and_nothing_is_left(here: Place) -> None:
    started = time.monotonic()
    code, _, err = here.run(*train("too many", "--ray.num-workers", "999"))
    assert time.monotonic() - started < 30
    assert code == 2
    assert re.fullmatch(r"apdist: ray.num_workers is 999, .* has room for \d+: .*\n", err)
    assert not (here.folder / "runs/too many").exists()


def test_a_cluster_that_does_not_answer_is_said_at_once_and_nothing_is_left(here: Place) -> None:
    started = time.monotonic()
    code, _, err = here.run(*train("nowhere", "--ray.address", "127.0.0.1:9"))
    assert time.monotonic() - started < 30
    assert code == 2
    assert re.fullmatch(r"apdist: no Ray cluster at ray.address '127.0.0.1:9' .*\n", err)
    assert not (here.folder / "runs/nowhere").exists()


def processes_with(mark: str) -> list[psutil.Process]:
    """All processes that inherited ``mark`` in their environment, wherever they hang."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("APDIST_TEST_MARK") == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def listening(processes: list[psutil.Process]) -> list[str]:
    """The addresses on which they listen, at least one."""
    pids = {process.pid for process in processes}
    ends = [end for end in psutil.net_connections("tcp") if end.pid in pids]
    found = [
        f"{end.laddr.ip} {psutil.Process(end.pid).name()}"
        for end in ends
        if end.status == psutil.CONN_LISTEN
    ]
    assert found
    return found


def processes_left(mark: str, grace_s: float = 15) -> list[psutil.Process]:
    """Those that are still there after a while; Ray's need a moment to notice that it has ended."""
    deadline = time.monotonic() + grace_s
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.slow
@pytest.mark.timeout(3 * TIMEOUT_S)
@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill"])
def test_ctrl_c_leaves_a_checkpoint_no_process_and_a_run_that_goes_on_exactly(
    here: Place, two_workers: Trained, whole_group: bool
) -> None:
    name = f"stopped {'by a terminal' if whole_group else 'by kill'}"
    run, mark = here.folder / "runs" / name, uuid.uuid4().hex
    with here.started(*train(name), APDIST_TEST_MARK=mark) as command:
        command.wait_until(lambda: any(run.glob("checkpoints/*/meta-*.json")))
        assert len(processes_with(mark)) > 5  # Ray and two workers: the search can find them
        open_ = [end for end in listening(processes_with(mark)) if "127.0.0.1" not in end]
        assert not open_  # of Ray, torch's store of addresses and gloo
        if whole_group:  # as a terminal does it: to Ray and the workers as well
            os.killpg(command.process.pid, signal.SIGINT)
        else:
            command.process.send_signal(signal.SIGINT)
        code, out, err = command.end()
    assert code == 130, f"{out}\n{err}"
    command_line = re.escape(f"apdist train --resume {shlex.quote(str(run))}")
    (done,) = re.findall(rf"stopped after step (\d+); go on with: {command_line}", out)
    assert 5 <= int(done) < STEPS
    assert any(run.glob(f"checkpoints/step-{int(done):010}/meta-*.json"))
    assert not processes_left(mark)
    assert not sessions_left(here)

    out = here.succeed("train", "--resume", str(run))
    assert f"going on from step {done}" in out
    assert f"Ray's own output: {run}/ray.log" in out
    written = (run / "ray.log").read_text()
    assert written.count("driver ") == 2  # both attempts
    assert "TrainController" in written
    resumed = local_run(run)
    assert resumed.steps == list(range(1, STEPS + 1))
    assert resumed.losses == two_workers.losses
    assert equal_weights(resumed, two_workers)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def nodes(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """Two nodes that know where S3 is, as machines with a role do."""
    folder = tmp_path_factory.mktemp("nodes")
    with ray_nodes({**environment(folder), **s3.environment()}, folder / "log.txt") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def office(
    here: Place, s3: S3Server, nodes: RayNodes, tmp_path_factory: pytest.TempPathFactory
) -> Place:
    """A machine beside the cluster, with an empty folder, the token and the way to S3."""
    folder = tmp_path_factory.mktemp("office")
    place = Place(folder, {**environment(folder), **s3.environment()})
    place.succeed("prepare", "folder", str(here.folder / "pictures"), "--out", url(s3, "shards"))
    return place


def url(s3: S3Server, name: str) -> str:
    return f"s3://{s3.bucket}/{name}"


def train_on_s3(s3: S3Server, name: str, *more: str) -> list[str]:
    """The arguments of a training whose data and results are objects."""
    where = ["--data.shards", url(s3, "shards"), "--run.output", url(s3, "runs")]
    return ["train", "glyphs", *OPTIONS, *where, "--run.name", name, *more]


def run_on_s3(s3: S3Server, name: str) -> Trained:
    return read_run(lambda file: s3.read(f"runs/{name}/{file}"))


@pytest.mark.slow
@pytest.mark.s3
def test_a_cluster_from_outside_trains_from_s3_to_s3_as_one_process_does(
    office: Place, s3: S3Server, nodes: RayNodes, in_process: Trained, two_workers: Trained
) -> None:
    arguments = train_on_s3(s3, "outside", "--ray.address", nodes.address)
    with office.started(*arguments) as command:
        command.wait_until(lambda: nodes.num_nodes_with_workers() == 2)
        code, out, err = command.end()
    assert code == 0, f"{out}\n{err}"

    trained = run_on_s3(s3, "outside")
    assert trained.steps == list(range(1, STEPS + 1))
    assert trained.evaluated == [0, 30, 60]
    same_but_for_rounding(trained.losses, in_process.losses)
    assert trained.losses == two_workers.losses
    assert equal_weights(trained, two_workers)
    names = s3.names("runs/outside/")
    assert {"config.json", "model.json", evaluation_name("test", 60)} <= set(names)
    kept = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
    assert kept == {"step-0000000055", "step-0000000060"}
    assert [path.name for path in office.folder.iterdir()] == []


@pytest.mark.slow
@pytest.mark.s3
def test_a_worker_that_is_killed_changes_nothing_in_the_result(
    office: Place, s3: S3Server, nodes: RayNodes, two_workers: Trained
) -> None:
    rare = ["--checkpoint.every-steps", "20", "--ray.address", nodes.address]
    with office.started(*train_on_s3(s3, "killed", *rare)) as command:
        # Ten steps after a checkpoint: they, and this evaluation, have to be done again.
        command.wait_until(lambda: evaluation_name("test", 30) in s3.names("runs/killed/"))
        nodes.workers()[0].kill()
        code, out, err = command.end()
    assert code == 0, f"{out}\n{err}"
    assert re.findall(r"going on from step (\d+)", out) == ["20"]

    trained = run_on_s3(s3, "killed")
    assert trained.steps == list(range(1, STEPS + 1))
    assert trained.evaluated == [0, 30, 60]
    assert trained.losses == two_workers.losses
    assert equal_weights(trained, two_workers)


@pytest.mark.slow
@pytest.mark.s3
def test_a_submitted_job_trains_on_the_cluster_and_its_exit_code_comes_back(
    office: Place, s3: S3Server, nodes: RayNodes, two_workers: Trained
) -> None:
    submit = ["submit", "--ray.address", nodes.dashboard, "--", *train_on_s3(s3, "job")]
    with office.started(*submit) as command:
        command.wait_until(lambda: nodes.num_nodes_with_workers() == 2)  # no second Ray in the job
        code, out, err = command.end()
    assert code == 0, f"{out}\n{err}"
    assert f"model: {url(s3, 'runs/job/model.safetensors')}" in out
    assert run_on_s3(s3, "job").losses == two_workers.losses
    code, out, _ = office.run(*submit)
    assert code == 2
    assert "apdist: the run s3://" in out
    assert "failed with exit code 2" in out
    code, out, err = office.run(*submit, RAY_AUTH_TOKEN="0" * 32)
    assert (code, out) == (2, "")
    assert "wants another token" in err


@pytest.mark.slow
@pytest.mark.s3
def test_a_job_that_is_stopped_writes_a_checkpoint_first(
    office: Place, s3: S3Server, nodes: RayNodes
) -> None:
    submit = ["submit", "--ray.address", nodes.dashboard, "--", *train_on_s3(s3, "stopped job")]
    submit += ["--training.steps", "10000"]  # it does not end by itself
    with office.started(*submit) as command:
        job = re.findall(r"^job (\w+) on ", command.first_line())[0]
        command.wait_until(lambda: "checkpoints" in "".join(s3.names("runs/stopped job/")))
        to = ["--ray.address", nodes.dashboard]
        code, out, err = office.run("stop", job[-6:], *to)
        assert (code, err) == (0, "")
        assert f"job {job}: stopped" in out
        code, out, _ = command.end()
    status, listed, err = office.run("jobs", "--json", *to)
    assert status == 0, err
    assert {"job": job, "state": "stopped"}.items() <= json.loads(listed)[0].items()
    assert code == 1
    assert f"job {job} stopped" in out
    (done,) = re.findall(r"stopped after step (\d+); go on with", out)
    assert f"stopped after step {done};" in office.run("logs", job, *to)[1]
    assert any(
        name.startswith(f"checkpoints/step-{int(done):010}/meta-")
        for name in s3.names("runs/stopped job/")
    )


@pytest.mark.slow
@pytest.mark.s3
def test_workers_that_no_node_has_room_for_are_refused(
    office: Place, s3: S3Server, nodes: RayNodes
) -> None:
    """Two CPUs in all, but not on one node."""
    arguments = ["--ray.num-workers", "1", "--ray.cpus-per-worker", "2"]
    code, _, err = office.run(
        *train_on_s3(s3, "too wide", "--ray.address", nodes.address, *arguments)
    )
    assert code == 2
    assert "apdist: ray.num_workers is 1, each with 2 CPUs; the cluster has room for 0" in err
    assert s3.names("runs/too wide/") == []


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("other", [{"RAY_AUTH_TOKEN": "f" * 32}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_cluster_that_wants_another_token_says_so_in_one_line(
    office: Place, s3: S3Server, nodes: RayNodes, other: dict[str, str]
) -> None:
    started = time.monotonic()
    code, _, err = office.run(*train_on_s3(s3, "no token", "--ray.address", nodes.address), **other)
    assert time.monotonic() - started < 30
    assert code == 2
    assert re.fullmatch(r"apdist: the Ray cluster at .* wants another token; set .*\n", err)
    assert s3.names("runs/no token/") == []
