"""Losses of pytorch-metric-learning by name, without its import."""

import importlib.util
import subprocess
import sys

import pytest

from apdist.loss.metric_learning_names import refuse_unknown_name

pytest.importorskip("pytorch_metric_learning")


def test_the_names_in_the_source_are_those_that_the_package_has() -> None:
    from pytorch_metric_learning import losses

    for name in (name for name in dir(losses) if name.endswith("Loss")):
        refuse_unknown_name(name)
    there = sorted(name for name in dir(losses) if name.endswith("Loss"))
    with pytest.raises(ValueError, match=f"it has {', '.join(there)}$"):
        refuse_unknown_name("NoneLoss")


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(
        ValueError, match="no loss 'TripletMarginLos'; did you mean 'TripletMarginLoss'"
    ):
        refuse_unknown_name("TripletMarginLos")


def test_a_package_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'apdist\[metric-learning\]'"):
        refuse_unknown_name("TripletMarginLoss")


def test_nothing_is_imported_to_refuse_a_name() -> None:
    code = (
        "import sys\n"
        "from apdist.loss.metric_learning_names import refuse_unknown_name\n"
        "try: refuse_unknown_name('NoneLoss')\n"
        "except ValueError: pass\n"
        "sys.exit(bool({'torch', 'scipy', 'pytorch_metric_learning'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
