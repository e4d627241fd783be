import os

import pytest
import torch

from apdist.config import Config, override
from apdist.training.cluster.launch import run_training
from apdist.training.determinism import WORKSPACE, deterministic
from apdist.training.events import StepDone
from apdist.training.loop import Job
from apdist.training.run_folder.runs import create_run

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def settings() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


def test_only_kernels_with_the_same_bits_are_used_and_afterwards_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = settings()
    with deterministic(True):
        assert settings() == (True, False, True)
        assert os.environ[WORKSPACE] == ":4096:8"
        with pytest.raises(RuntimeError, match="deterministic"):
            # An operation that has no such kernel is named, not computed.
            torch.empty(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    assert settings() == before


def test_unasked_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    before = settings()
    with deterministic(False):
        assert settings() == before
    assert WORKSPACE not in os.environ


def test_a_training_is_asked_for_it_by_its_option(small_config: Config) -> None:
    seen = []
    config = override(small_config, {"training.deterministic": True, "run.name": "a"})
    run = create_run(config, "test")

    def note(event: object) -> None:
        if isinstance(event, StepDone):
            seen.append(event.figures["loss"])

    run_training(Job(run.config, run.uri), note)
    plain = create_run(override(small_config, {"run.name": "b"}), "test")
    expected = []
    run_training(
        Job(plain.config, plain.uri),
        lambda event: (
            expected.append(event.figures["loss"]) if isinstance(event, StepDone) else None
        ),
    )
    assert seen == expected  # on a CPU the bits are the same without it
    assert settings() == (False, False, False) or not settings()[2]
