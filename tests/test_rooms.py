"""The rules of the map: who may import whom, what each module and room has beside it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

FLOORS = [
    {"config", "loss.losses"},
    {"data.storage"},
    {"data.images", "data.catalogue", "data.plan"},
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
AS_A_ROOM = "tests of the room are named after what it does: tests/data, tests/loss, tests/training"
THIN = "tests/pipelines types its commands: test_cli, test_prepare, test_sweep, test_cluster"
WITHOUT_TESTS = {
    "apdist/_face.py": "tests/test_public.py asks every room for its names",
    "apdist/data/*/*.py": AS_A_ROOM,
    "apdist/loss/*.py": AS_A_ROOM,
    "apdist/loss/kernels/*.py": "parts of a whole that tests/loss compares with its definition",
    "apdist/training/*.py": AS_A_ROOM,
    "apdist/training/step/*.py": AS_A_ROOM,
    "apdist/training/cluster/remote.py": "test_launch and tests/pipelines/test_cluster.py run it",
    "pipelines/apdist_verbs/__main__.py": THIN,
    "pipelines/apdist_verbs/demo*.py": THIN,
    "pipelines/apdist_verbs/evaluate.py": THIN,
    "pipelines/apdist_verbs/extract.py": THIN,
    "pipelines/apdist_verbs/index.py": THIN,
    "pipelines/apdist_verbs/prepare/*.py": THIN,
    "pipelines/apdist_verbs/report.py": THIN,
    "pipelines/apdist_verbs/search.py": THIN,
}
"""Modules that need no test file of their name, and where they are tested."""
RAY = {"training.cluster.launch", "training.cluster.remote", "training.space"}
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
            assert len(list(path.glob("*.py"))) <= 18, path


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
    missing = []
    for folder, tests in (("apdist", "tests"), ("pipelines/apdist_verbs", "tests/pipelines")):
        for file in sorted((ROOT / folder).rglob("*.py")):
            inside = file.relative_to(ROOT / folder)
            test = ROOT / tests / inside.parent / f"test_{file.name}"
            is_exempt = any(file.relative_to(ROOT).match(pattern) for pattern in WITHOUT_TESTS)
            if file.name != "__init__.py" and not is_exempt and not test.exists():
                missing.append(f"{file.relative_to(ROOT)} wants {test.relative_to(ROOT)}")
    assert not missing


def test_no_exemption_outlives_its_module() -> None:
    assert not [pattern for pattern in WITHOUT_TESTS if not list(ROOT.glob(pattern))]
