"""What stage 1 keeps for stage 3."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.training.step import activations, offloading
from apdist.training.step.activations import Activations, saved_bytes
from tests.toy import (
    Toy,
    error_of,
    one_graph,
    run_step,
)


def test_weights_do_not_count_as_saved_memory() -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300)).double()
    images = torch.rand(100, 300, dtype=torch.float64)
    # Inputs of both layers; the output of the rectifier is the second one.
    assert saved_bytes(model, images) == 2 * images.nbytes


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What travels to the host."""
    monkeypatch.setattr(offloading, "_SMALLEST_OFFLOADED_BYTES", 1)
    found, right = list[Tensor](), offloading.Offloading._sent_away

    def sent_away(self: Any, saved: Tensor, *storage: Any) -> Any:
        found.append(saved.detach())
        return right(self, saved, *storage)

    monkeypatch.setattr(offloading.Offloading, "_sent_away", sent_away)
    return found


def test_offloading_moves_activations_but_no_weights(copied: list[Tensor]) -> None:
    model = Toy()
    addresses = offloading.storages_of(model)
    expected, _, _ = one_graph(Toy(), 6)
    assert error_of(run_step(model, 6, activations="offload").gradients, expected) < 1e-10
    assert copied
    assert not {saved.untyped_storage().data_ptr() for saved in copied} & addresses


def network() -> nn.Sequential:
    """The output of the rectifier is saved twice: for its own gradient, and as an input."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))


def gradients_of(
    model: nn.Module, chunks: list[Tensor], mode: Activations = "offload", bf16: bool = False
) -> list[Tensor]:
    """All chunks forward, and then backwards chunk by chunk."""
    found = []
    kept = activations.keeping(mode, model)
    for chunk in chunks:
        with kept, torch.autocast("cpu", torch.bfloat16, bf16):
            found.append(model(chunk).float().square().sum())
    for loss in found:
        loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_each_tensor_travels_once_and_one_that_was_overwritten_again(copied: list[Tensor]) -> None:
    chunks = list(torch.randn(3, 8, 40))
    model, expected = network(), network()
    sum(expected(chunk).square().sum() for chunk in chunks).backward()  # type: ignore[union-attr]
    found = gradients_of(model, chunks)
    for gradient, parameter in zip(found, expected.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    # Of each chunk its images, the rectifier's output, and the last output for its square.
    assert [saved.shape[1] for saved in copied] == [40, 30, 20] * 3

    copied.clear()
    value = torch.full((5, 6), 0.5, requires_grad=True)
    with activations.keeping("offload", model):
        place = value * 1
        total = place.sin()
        place.add_(1)
        (total + place.sin()).sum().backward()
    assert value.grad is not None
    expected_slope = torch.tensor(0.5).cos() + torch.tensor(1.5).cos()
    torch.testing.assert_close(value.grad, expected_slope.expand(5, 6))
    assert len(copied) == 2


def test_a_tensor_at_the_address_of_one_that_is_gone_is_another(copied: list[Tensor]) -> None:
    keeping = offloading.Offloading(nn.Linear(1, 1))
    kept = []
    for number in range(50):  # each takes the memory of the one before
        kept.append(keeping._pack(torch.full((64, 64), float(number))))
    assert [packed.place[0, 0].item() for packed in kept] == list(range(50))


def test_copies_of_weights_in_autocast_do_not_travel(copied: list[Tensor]) -> None:
    chunks = list(torch.randn(2, 8, 40))
    found = gradients_of(network(), chunks, bf16=True)
    copied_shapes = [tuple(saved.shape) for saved in copied]
    assert (40, 30) not in copied_shapes
    assert (30, 40) not in copied_shapes
    assert (30, 20) not in copied_shapes
    assert copied_shapes
    assert all(map(torch.equal, found, gradients_of(network(), chunks, "store", bf16=True)))
