"""What the disturbed trainings share: a machine, a tracking server, S3, what they should give."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlflow_server import MlflowServer, mlflow_server
from tests.pictures import write_folder
from tests.pipelines.faults.rows import Undisturbed, World, undisturbed
from tests.pipelines.test_cluster import Place
from tests.ray_nodes import RayNodes, environment, ray_nodes
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="package")
def mlflow() -> Iterator[MlflowServer]:
    with mlflow_server() as server:
        yield server


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow: MlflowServer) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    write_folder(folder / "pictures", {f"class {label:02}": 6 for label in range(20)})
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:  # a short name
        Path(temporary, "tmp").mkdir()
        own = {"TMPDIR": f"{temporary}/tmp", "RAY_TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
        own["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"  # for all processes, and for later
        place = Place(folder, {**environment(folder), **own})
        place.succeed("prepare", "folder", "pictures", "--out", "shards")
        yield World(place, mlflow, Path(temporary))


@pytest.fixture
def up(world: World) -> World:
    """With a server that answers and nothing left over, whatever the test before did to it."""
    for path in world.left_over():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if world.mlflow.process is None:
        world.mlflow.start()
    return world


@pytest.fixture(scope="package")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    folder = tmp_path_factory.mktemp("nodes")
    with ray_nodes(environment(folder), folder / "log.txt") as cluster:
        yield cluster


@pytest.fixture(scope="package")
def alone(world: World) -> Undisturbed:
    """The training in one process."""
    return undisturbed(world, "alone")


@pytest.fixture(scope="package")
def two_workers(world: World) -> Undisturbed:
    """The training on two workers of a local Ray."""
    return undisturbed(world, "two", workers=2)


@pytest.fixture
def on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3
