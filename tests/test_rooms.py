"""The rules of the map: who may import whom, what each module and room has beside it."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.places import ROOT

FLOORS = [
    {"addresses"},
    {"config", "arrays", "given", "threads"},
    {"data.storage"},
    {
        "data.images",
        "data.augmentation",
        "data.endings",
        "data.decoders",
        "data.given_images",
        "data.fast_decoding",
        "data.pixels",
        "data.png",
        "data.child_signals",
        "data.text",
        "data.catalogue",
        "data.plan",
    },
    {"data.loading", "data.preparing", "data.ground_truth"},
    {"loss", "model"},
    {"retrieval"},
    {"audit"},
    {"training.step"},
    {"figures", "training.sweeps.records"},
    {"report"},
    {"serving"},
    {"training"},
    {"training.cluster", "export"},
]
"""A room may import from the floors below its own, and from itself; `report` is below training."""
PASS = "a part of one pass: test_gradient, test_listwise and test_triton_histogram run it whole"
DATA = "nothing but a data class"
VERBS = "test_cli goes from pictures to search by these verbs, trained once; it refuses bad input"
WITHOUT_TESTS = {
    "apdist/_face.py": "re-exports: tests/test_public.py asks every room for its names",
    "apdist/data/storage/files.py": "the face of all stores: test_store speaks to them through it",
    **{
        f"apdist/loss/kernels/{name}.py": PASS
        for name in (
            "backends",
            "numba_kernels",
            "torch_histogram",
            "triton_axis",
            "triton_binning",
            "triton_sloping",
        )
    },
    **{f"apdist/data/preparing/published/{name}.py": DATA for name in ("description", "listing")},
    "apdist/serving/openapi.py": "tests/serving/test_app.py reads what it says over a socket",
    "apdist/serving/service.py": "tests/serving/test_app.py and test_reload.py: all is behind it",
    "apdist/training/job.py": DATA,
    "apdist/training/step/results.py": DATA,
    "apdist/training/sweeps/records.py": DATA,
    "pipelines/apdist_verbs/measure/source.py": "tests/pipelines/test_describe_options.py",
    "pipelines/apdist_verbs/measure/options.py": "test_labelled and test_cli type them",
    "pipelines/apdist_verbs/auditing/*.py": "tests/pipelines/test_audit.py",
    "apdist/training/step/activations.py": "test_offloading and test_memory",
    "apdist/training/learning/learner.py": DATA,
    "apdist/retrieval/positives.py": "a data class and a product: test_rank_kernels, test_ranks",
    "apdist/retrieval/torch_counting.py": "test_rank_counting compares it with the compiled loops",
    **{
        f"pipelines/apdist_verbs/{name}.py": VERBS
        for name in ("__main__", "evaluate", "report", "train")
    },
    "pipelines/apdist_verbs/demo*.py": "types the other verbs; tests/test_wheel.py runs it",
    "pipelines/apdist_verbs/pages/content.py": "tests/pipelines/pages/test_comparing.py, test_cli",
    **{
        f"pipelines/apdist_verbs/{name}.py": "glue: tests/training/tracking/test_following.py"
        for name in ("settling", "track")
    },
    **{
        f"apdist/training/tracking/{name}.py": "tests/training/tracking/test_following.py"
        for name in ("artifacts", "description")
    },
    "apdist/training/tracking/served.py": "tests/training/tracking/test_registering.py",
}
"""Modules that need no test file of their name, and where they are tested."""
RAY = {
    *("training.cluster.joining", "training.cluster.trainer"),
    *("training.cluster.remote", "training.cluster.elastic"),
    *("training.cluster.own_ray", "training.cluster.noise", "training.cluster.metrics"),
    *("training.cluster.rendezvous", "training.cluster.credentials"),
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
            # Room for one more where the guide says that a store is one file; a verb is one, too.
            most = 24 if path.name == "apdist_verbs" else 20
            assert len(list(path.glob("*.py"))) <= most, path


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
