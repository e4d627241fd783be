"""Losses of pytorch-metric-learning and their arguments, without its import."""

import importlib.util
import inspect
import subprocess
import sys

import pytest

from apdist.loss.metric_learning_source import (
    constructor_parameters,
    refuse_arguments,
    refuse_unknown_name,
    signature_of,
)

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


def test_the_parameters_in_the_source_are_those_that_the_classes_have() -> None:
    from pytorch_metric_learning import losses

    for name in (name for name in dir(losses) if name.endswith("Loss")):
        there: dict[str, inspect.Parameter] = {}
        for base in getattr(losses, name).__mro__:
            if base.__module__.startswith("pytorch_metric_learning") and "__init__" in vars(base):
                for parameter in list(inspect.signature(base.__init__).parameters.values())[1:]:
                    if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                        there.setdefault(parameter.name, parameter)
        found = constructor_parameters(name)
        assert list(found) == list(there)
        required = {n for n, parameter in there.items() if parameter.default is parameter.empty}
        assert {n for n, parameter in found.items() if parameter.default is None} == required
    assert signature_of("TripletMarginLoss").startswith(
        "TripletMarginLoss(margin=0.05, swap=False, smooth_loss=False, triplets_per_anchor='all', "
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "TripletMarginLoss",
            {"margin": "wide"},
            "margin of pml:.* must be a number, got 'wide'; it",
        ),
        (
            "RankedListLoss",
            {"margin": 1},
            r"pml:RankedListLoss needs Tn; it is RankedListLoss",
        ),
        (
            "ArcFaceLoss",
            {"embedding_size": 8},
            "embedding_size .* is known from the data",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    name: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_arguments(name, arguments)


def test_arguments_that_can_be_are_not() -> None:
    refuse_arguments("TripletMarginLoss", {"margin": 1, "triplets_per_anchor": 3, "swap": True})
    refuse_arguments("RankedListLoss", {"margin": 1, "Tn": 2})
    refuse_arguments("SoftTripleLoss", {})  # its number of classes and its size are known
    refuse_arguments("ContrastiveLoss", {})  # what the pair loss wants that it extends it gives


def test_every_loss_that_needs_nothing_may_be_given_nothing() -> None:
    from pytorch_metric_learning import losses

    for name in (name for name in dir(losses) if name.endswith("Loss")):
        own = inspect.signature(getattr(losses, name)).parameters.values()
        needed = {p.name for p in own if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if needed - {"num_classes", "embedding_size", "descriptors_dim"}:
            with pytest.raises(ValueError, match=" needs "):
                refuse_arguments(name, {})
        else:
            refuse_arguments(name, {})


def test_nothing_is_imported_to_refuse_a_name_or_an_argument() -> None:
    with pytest.raises(ValueError, match="has no argument 'bins'; did you mean 'num_bins'"):
        refuse_arguments("FastAPLoss", {"bins": 3})
    code = (
        "import sys\n"
        "from apdist.loss.metric_learning_source import refuse_arguments\n"
        "try: refuse_arguments('FastAPLoss', {'bins': 3})\n"
        "except ValueError: pass\n"
        "sys.exit(bool({'torch', 'scipy', 'pytorch_metric_learning'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
