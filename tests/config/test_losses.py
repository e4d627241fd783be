"""The table of losses: what the command line knows of them."""

import pkgutil
import re
import subprocess
import sys
from typing import Any

import pytest

from apdist.config import LossConfig
from apdist.config.losses import LOSSES, loss_of
from apdist_verbs.terminal.help import texts_of


def shown(default: object) -> str:
    """As a text for people has it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_is_there_and_has_the_options_that_the_table_says(kind: str) -> None:
    constructor: Any = pkgutil.resolve_name(loss_of(kind).constructor)
    if loss_of(kind).is_listwise:
        built = constructor().options
    elif loss_of(kind).has_centres:
        import torch

        built = constructor(torch.arange(3), 2).options
    else:
        built = constructor()
    assert isinstance(built, loss_of(kind).options)
    assert all(getattr(built, name) == value for name, value in loss_of(kind).defaults.items())


def test_the_help_of_an_option_names_each_loss_that_has_it_with_its_default() -> None:
    texts = texts_of(LossConfig)
    for kind, loss in LOSSES.items():
        for name, default in loss.defaults.items():
            text = " ".join(texts[name].split())
            if name in ("num_bins", "min_score", "max_score", "cache_mib", "precision"):
                continue  # the same default for all that have it, which the help shows
            found = re.search(rf"\b{kind}\b[^()]*?\(([^()]*?)\)", text)
            assert found, f"{name} does not name {kind}"
            assert found[1].split(";")[0] == shown(default), (kind, name)


def test_a_loss_of_pytorch_metric_learning_has_arguments() -> None:
    assert loss_of("pml:Any").defaults == {"centres_rate": 1.0, "arguments": ()}


def test_the_table_loads_no_torch() -> None:
    code = "import sys, apdist.config.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
