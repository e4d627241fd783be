"""What users import: it stays, and costs nothing until it is used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import apdist

PUBLIC = {
    "apdist.loss": {
        "AveragePrecisionLoss",
        "Diagnostics",
        "LossOptions",
        "Matryoshka",
        "RowScores",
        "average_precision",
        "average_precision_from_scores",
        "average_precision_loss",
        "score_own_rows",
    },
    "apdist.training": {
        "StepOptions",
        "StepResult",
        "global_step",
        "own_rows",
        "sizes_of_workers",
    },
    "apdist.retrieval": {
        "OpenIndex",
        "RetrievalScores",
        "JudgedScores",
        "Filter",
        "SearchIndex",
        "SearchResults",
        "SeveralIndexes",
        "add_to_index",
        "augment_database",
        "build_index",
        "expand_queries",
        "load_index",
        "open_index",
        "parse_filter",
        "pool_scales",
        "remove_from_index",
        "save_index",
        "score_labelled",
        "score_judged",
        "score_queries",
        "score_rankings",
        "update_index",
        "write_index",
    },
    "apdist.model": {"DescriptorNet", "TrainedModel", "build_model", "load_model"},
    "apdist.data": {"Plan", "PlanSummary", "read_catalogue"},
}
PUBLIC["apdist"] = set().union(*PUBLIC.values())


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_stay_where_they_are(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    for name in PUBLIC[package]:
        found = getattr(module, name)
        assert found.__name__ == name
        assert found.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009


@pytest.mark.parametrize("package", PUBLIC)
def test_type_checkers_see_the_names_that_are_imported(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text())
    seen = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == module._HOMES


def test_a_name_is_itself_though_a_module_was_imported_before() -> None:
    for package, names in PUBLIC.items():
        for name in names:
            home = importlib.import_module(importlib.import_module(package)._HOMES[name])
            assert getattr(importlib.import_module(package), name) is getattr(home, name)


def test_importing_apdist_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, apdist, apdist.loss, apdist.training, apdist.retrieval, apdist.model\n"
        "import apdist.data, apdist.config\n"
        "sys.exit(bool({'torch', 'ray', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_the_version_is_that_of_the_package() -> None:
    assert apdist.__version__.count(".") == 2
