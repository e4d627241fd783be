"""What autograd saves leaves the device and comes back ahead of need, on a device that dawdles."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.training.step import offloading
from apdist.training.step.activations import keeping
from tests.late_device import Event, LateCopies, Work

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
