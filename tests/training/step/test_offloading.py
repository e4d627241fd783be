"""What autograd saves leaves the device and comes back ahead of need, on a device that dawdles."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.training.step import offloading
from apdist.training.step.activations import Activations, keeping
from tests.late_device import Event, LateCopies, Work
from tests.toy import Toy, error_of, one_graph, run_step

WIDTH, CHUNK, NUM_LAYERS = 16, 8, 6
TENSOR = CHUNK * WIDTH * 4


class LoggedCopies(LateCopies):
    """Copies when what it computes with has to be there, and notes what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[int] = []
        """Bytes on their way beside those that are waited for, at each wait."""
        self.on_the_way = self.most_on_the_way = 0

    def copy(self, target: Tensor, source: Tensor) -> None:
        self.on_the_way += source.nbytes
        self.most_on_the_way = max(self.most_on_the_way, self.on_the_way)

        def arrive() -> None:
            target.copy_(source)
            self.on_the_way -= source.nbytes

        self.add(self.copying, arrive)

    def wait(self, event: Event, work: Work) -> None:
        super().wait(event, work)
        if work is self.computing:
            self.ahead.append(self.on_the_way)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> LoggedCopies:
    device = LoggedCopies()
    monkeypatch.setattr(offloading, "streams_of", lambda _: device)
    monkeypatch.setattr(offloading, "_SMALLEST_OFFLOADED_BYTES", 1)
    return device


def network() -> nn.Sequential:
    torch.manual_seed(4)
    layers = [layer for _ in range(NUM_LAYERS) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*layers)


def gradients(mode: Any) -> list[Tensor]:
    """Of three chunks: all forward, then backwards in the same order."""
    model, losses = network(), []
    kept = keeping(mode, model)
    for chunk in torch.randn(3, CHUNK, WIDTH, generator=torch.Generator().manual_seed(5)):
        with kept:
            losses.append(model(chunk).sum())
    for loss in losses:
        loss.backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("tensors_on_the_way", [0, 1, 2, 100])
def test_what_comes_back_is_what_left(
    late: LoggedCopies, monkeypatch: pytest.MonkeyPatch, tensors_on_the_way: int
) -> None:
    monkeypatch.setattr(offloading, "_BYTES_ON_THE_WAY", tensors_on_the_way * TENSOR)
    found = gradients("offload")
    late.finish()
    assert all(map(torch.equal, found, gradients("store")))
    # One tensor may always travel, and one is added before the oldest is waited for.
    assert late.most_on_the_way <= (max(1, tensors_on_the_way) + 1) * TENSOR


def test_the_next_is_on_its_way_before_one_is_waited_for(
    late: LoggedCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offloading, "_BYTES_ON_THE_WAY", 2 * TENSOR)
    gradients("offload")
    # Before the first is asked for, nothing is; behind the last, nothing is left.
    assert late.ahead[0] == late.ahead[-1] == 0
    assert [place for place, ahead in enumerate(late.ahead[1:-2]) if not ahead] == []


def test_a_tensor_that_is_overwritten_while_it_leaves_is_told(late: LoggedCopies) -> None:
    value = torch.full((5, 6), 0.5, requires_grad=True)
    with keeping("offload", nn.Linear(1, 1)):
        place = value * 1
        total = place.sin()
        place.add_(1)
    with pytest.raises(RuntimeError, match=r"shape \(5, 6\) .* overwritten .* recompute"):
        total.sum().backward()
    assert late.on_the_way == 0


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


def rectified() -> nn.Sequential:
    """The output of the rectifier is saved twice: for its own gradient, and as an input."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))


def gradients_of(
    model: nn.Module, chunks: list[Tensor], mode: Activations = "offload", bf16: bool = False
) -> list[Tensor]:
    """All chunks forward, and then backwards chunk by chunk."""
    found = []
    kept = keeping(mode, model)
    for chunk in chunks:
        with kept, torch.autocast("cpu", torch.bfloat16, bf16):
            found.append(model(chunk).float().square().sum())
    for loss in found:
        loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_each_tensor_travels_once_and_one_that_was_overwritten_again(copied: list[Tensor]) -> None:
    chunks = list(torch.randn(3, 8, 40))
    model, expected = rectified(), rectified()
    sum(expected(chunk).square().sum() for chunk in chunks).backward()  # type: ignore[union-attr]
    found = gradients_of(model, chunks)
    for gradient, parameter in zip(found, expected.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    # Of each chunk its images, the rectifier's output, and the last output for its square.
    assert [saved.shape[1] for saved in copied] == [40, 30, 20] * 3

    copied.clear()
    value = torch.full((5, 6), 0.5, requires_grad=True)
    with keeping("offload", model):
        place = value * 1
        total = place.sin()
        place.add_(1)
        (total + place.sin()).sum().backward()
    assert value.grad is not None
    expected_slope = torch.tensor(0.5).cos() + torch.tensor(1.5).cos()
    torch.testing.assert_close(value.grad, expected_slope.expand(5, 6))
    assert len(copied) == 2


def test_a_tensor_at_the_address_of_one_that_is_gone_is_another(copied: list[Tensor]) -> None:
    hooks = offloading.Offloading(nn.Linear(1, 1))
    kept = []
    for number in range(50):  # each takes the memory of the one before
        kept.append(hooks._pack(torch.full((64, 64), float(number))))
    assert [packed.place[0, 0].item() for packed in kept] == list(range(50))


def test_copies_of_weights_in_autocast_do_not_travel(copied: list[Tensor]) -> None:
    chunks = list(torch.randn(2, 8, 40))
    found = gradients_of(rectified(), chunks, bf16=True)
    copied_shapes = [tuple(saved.shape) for saved in copied]
    assert (40, 30) not in copied_shapes
    assert (30, 40) not in copied_shapes
    assert (30, 20) not in copied_shapes
    assert copied_shapes
    assert all(map(torch.equal, found, gradients_of(rectified(), chunks, "store", bf16=True)))
