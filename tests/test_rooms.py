"""The rules of the map: who may import whom, what each module and room has beside it."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.places import ROOT

FLOORS = [
    {"config", "loss.losses"},
    {"data.storage"},
    {
        "data.images",
        "data.augmentation",
        "data.pixels",
        "data.png",
        "data.text",
        "data.catalogue",
        "data.plan",
    },
    {"data.loading", "data.preparing"},
    {"loss", "model"},
    {"retrieval"},
    {"training.step"},
    {"figures"},
    {"report"},
    {"training"},
    {"training.cluster"},
]
"""A room may import from the floors below its own, and from itself; `report` is below training.
The table of losses imports nothing, so that the configuration knows their names."""
STORES = "behind the face: test_store holds all to one contract, test_resuming to faults"
STEP = "a part of the step: test_step compares the whole with one graph over the batch"
LOSS = "test_listwise compares the whole with its definition, test_baselines the others with theirs"
THIN = "tests/pipelines types its commands: test_cli, test_prepare, test_sweep, test_cluster"
WITHOUT_TESTS = {
    "apdist/_face.py": "tests/test_public.py asks every room for its names",
    "apdist/data/preparing/tables/*.py": "test_tables reads every kind of list",
    "apdist/data/preparing/tally.py": "test_kinds, and test_prepare's closing table, count by it",
    "apdist/data/preparing/splits.py": "test_folder and test_tables split with it",
    **{
        f"apdist/data/storage/{name}.py": STORES
        for name in ("connections", "files", "http", "local", "s3", "s3_filesystem", "web")
    },
    "apdist/data/storage/transfers.py": "counters that the tests of faults read",
    **{
        f"apdist/loss/{name}.py": LOSS
        for name in ("autograd", "batch", "dense", "keywords", "losses", "precision", "results")
    },
    "apdist/loss/kernels/*.py": "parts of a pass: test_gradient and test_listwise run each backend",
    **{
        f"apdist/training/step/{name}.py": STEP
        for name in (
            "descriptors",
            "gradients",
            "guard",
            "memory",
            "options",
            "results",
            "stopwatch",
        )
    },
    "apdist/training/run_folder/forking.py": "tests/pipelines/test_resume.py forks runs",
    "apdist/training/run_folder/versions.py": "test_checkpoint and test_runs meet other versions",
    "apdist/training/tracking/mlflow_run.py": "test_tracker writes runs and reads them again",
    "apdist/training/cluster/remote.py": "test_launch and tests/pipelines/test_cluster.py run it",
    "pipelines/apdist_verbs/prepare/*.py": THIN,
    **{
        f"pipelines/apdist_verbs/{name}.py": THIN
        for name in ("__main__", "demo", "demo_tour", "evaluate", "extract", "index")
    },
    **{f"pipelines/apdist_verbs/{name}.py": THIN for name in ("report", "search")},
    "apdist/retrieval/rank_counting.py": "test_ranks compares it with the definition",
    "apdist/retrieval/rank_kernels.py": "test_ranks compares it with the definition",
    "apdist/retrieval/positives.py": "test_ranks compares it with the definition",
    "pipelines/apdist_verbs/runs.py": "test_resume lists runs in every state",
    "pipelines/apdist_verbs/track.py": "tests/training/tracking/test_following.py",
}
"""Modules that need no test file of their name, and where they are tested."""
RAY = {
    *("training.cluster.launch", "training.cluster.remote", "training.cluster.failures"),
    "training.space",
}
"""Modules that may import Ray."""


def modules() -> dict[str, Path]:
    """Module name without ``apdist.``, and its file."""
    files = sorted((ROOT / "apdist").rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT / "apdist").with_suffix("").parts): file for file in files
    }


def imports(file: Path) -> Iterator[str]:
    """Names of the modules that a file imports, wherever in it; faces are not followed."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> dict[str, set[str]]:
    """Of each module of the package those that it imports."""
    known = modules()
    return {
        name: {
            target
            for imported in imports(file)
            if imported.startswith("apdist.")
            and (target := imported.removeprefix("apdist.")) in known
            and target != name
        }
        for name, file in known.items()
        if file.name != "__init__.py"
    }


def floor(module: str) -> int:
    """The floor of a module: that of the longest room it is in."""
    rooms = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (room := ".".join(parts[:length])) in rooms:
            return rooms[room]
    raise AssertionError(f"{module} is in no room of the map")


def test_no_arrow_goes_up() -> None:
    up = [
        f"{name} -> {target}"
        for name, targets in arrows().items()
        if name != "_face"
        for target in targets
        if floor(target) > floor(name)
    ]
    assert not up


def test_there_is_no_circle() -> None:
    left = arrows()
    while ready := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in ready}
    assert not left


def test_ray_is_imported_where_the_map_says() -> None:
    found = {
        name
        for name, file in modules().items()
        if any(m.split(".")[0] == "ray" for m in imports(file))
    }
    assert found == RAY


def test_the_package_never_imports_the_verbs() -> None:
    for name, file in modules().items():
        assert not any(module.split(".")[0] == "apdist_verbs" for module in imports(file)), name


@pytest.mark.parametrize("folder", ["apdist", "pipelines", "tests"])
def test_every_folder_has_few_files(folder: str) -> None:
    for path in (ROOT / folder).rglob("*"):
        if path.is_dir() and path.name != "__pycache__":
            # Room for one more where the guide says that a store or a verb is one file.
            assert len(list(path.glob("*.py"))) <= 20, path


def test_the_map_names_every_module_and_nothing_else() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = text.split("```")[3]
    named = set(re.findall(r"[\w]+(?=\.py\b)", drawn))
    there = {
        name.split(".")[-1] for name, file in modules().items() if not file.name.startswith("_")
    }
    files = (ROOT / "pipelines").rglob("*.py")
    verbs = {file.stem for file in files if file.stem != "__init__"}
    assert named == there | verbs


@pytest.mark.parametrize("folder", ["apdist", "pipelines"])
def test_every_room_of_many_files_has_a_readme_that_names_its_first(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*")):
        files = list(path.glob("*.py")) if path.is_dir() else []
        if len(files) > 5:
            text = (path / "README.md").read_text()
            assert len(text.splitlines()) <= 40, path
            for name in re.findall(r"`(\w+\.py)`", text):
                assert list(path.rglob(name)), f"{path}/README.md names {name}"


def test_every_module_that_decides_something_has_a_test_file_of_its_name() -> None:
    missing, exempt = [], set()
    for folder, tests in (("apdist", "tests"), ("pipelines/apdist_verbs", "tests/pipelines")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside, name = file.relative_to(ROOT / folder), str(file.relative_to(ROOT))
            exempting = {pattern for pattern in WITHOUT_TESTS if fnmatch(name, pattern)}
            exempt |= exempting
            test = ROOT / tests / inside.parent / f"test_{file.name}"
            if file.name != "__init__.py" and not exempting and not test.exists():
                missing.append(f"{name} wants {test.relative_to(ROOT)}")
    assert not missing
    assert exempt == set(WITHOUT_TESTS)


def test_the_guide_for_contributors_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {name for name in re.findall(r"`([\w/]+/[\w.]+)`", text) if "NAME" not in name}
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
