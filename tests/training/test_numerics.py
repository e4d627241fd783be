import os

import pytest
import torch

from apdist.config import Config, TrainingConfig, override
from apdist.loss.kernels.products import float32_products
from apdist.training.cluster.launch import run_training
from apdist.training.events import StepDone
from apdist.training.job import Job
from apdist.training.numerics import WORKSPACE, in_words, numerics
from apdist.training.run_folder.runs import create_run

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def settings() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()


def test_only_kernels_with_the_same_bits_are_used_and_afterwards_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = settings()
    with numerics(TrainingConfig(deterministic=True)):
        assert settings() == (True, False, True)
        assert os.environ[WORKSPACE] == ":4096:8"
        with pytest.raises(RuntimeError, match="deterministic"):
            # An operation that has no such kernel is named, not computed.
            torch.empty(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    assert settings() == before


def test_unasked_kernels_are_chosen_by_their_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    before = settings()
    with numerics(TrainingConfig()):
        assert settings() == (before[0], True, before[2])
    assert settings() == before
    assert WORKSPACE not in os.environ


@pytest.mark.parametrize(("tf32", "precision"), [(True, "tf32"), (False, "ieee")])
def test_products_and_convolutions_of_the_network_have_one_precision_and_the_loss_its_own(
    tf32: bool, precision: str
) -> None:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    with numerics(TrainingConfig(tf32=tf32)):
        assert (matmul.fp32_precision, conv.fp32_precision) == (precision, precision)
        with float32_products(torch.device("cuda")):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == precision
    assert (matmul.fp32_precision, conv.fp32_precision) == before


def test_what_a_gpu_does_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    cuda = torch.device("cuda")
    assert in_words(TrainingConfig(), cuda) == "float32 products as TF32, on a card"
    bf16 = TrainingConfig(precision="bf16", tf32=False)
    assert in_words(bf16, cuda) == "bf16, the rest float32, on a card"
    assert in_words(bf16, torch.device("cpu")) == ""


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
