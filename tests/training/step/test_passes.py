"""The batch stays in host memory: its chunks go to a device that copies as late as it may."""

import threading
from itertools import accumulate

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from apdist.loss.listwise import AveragePrecisionLoss
from apdist.training.step.options import StepOptions
from apdist.training.step.step import global_step
from tests.late_device import LateCopies, travelling
from tests.toy import SIZE, Toy, run_step
from tests.training.step.steps import MODES

SIDE, CHUNK = 48, 8


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> LateCopies:
    """The CPU as a device that images travel to."""
    device = LateCopies()
    travelling(monkeypatch, device)
    return device


@pytest.mark.parametrize("activations", MODES)
@pytest.mark.parametrize("chunk_size", [4, 23])
def test_images_that_travel_give_the_same_gradient(
    late: LateCopies, monkeypatch: pytest.MonkeyPatch, activations: str, chunk_size: int
) -> None:
    found = run_step(Toy(batch_norm="chunk"), chunk_size, activations=activations)
    monkeypatch.undo()
    expected = run_step(Toy(batch_norm="chunk"), chunk_size, activations=activations)
    assert len(late.held) in (1, 2)
    num_chunks = -(-SIZE // chunk_size)
    assert late.num_copies == num_chunks * (2 if activations == "recompute" else 1)
    for name, gradient in expected.gradients.items():
        assert torch.equal(found.gradients[name], gradient), name


class Wide(nn.Module):
    """Chunks weigh more than all else; the first layer keeps its float images for its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 24, 3, padding=1), nn.Linear(24, 8)

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors of images (c, 3, s, s)."""
        return F.normalize(self.last(self.first(images).relu().mean((2, 3))))


def peak_bytes(num_images: int) -> int:
    """Of a step: everything that is allocated in it, as if the device had it all."""
    images, labels = torch.rand(num_images, 3, SIDE, SIDE), torch.arange(num_images) // 2
    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=CHUNK)
    model = Wide()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        global_step(model, images, labels, options, step=0)
    results = record.profiler.kineto_results  # type: ignore[union-attr]
    events = [e for e in results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def test_memory_does_not_grow_with_the_batch(late: LateCopies) -> None:
    small, large = peak_bytes(2 * CHUNK), peak_bytes(32 * CHUNK)
    descriptors = 8 * 4 * 32 * CHUNK
    assert large - descriptors <= 1.05 * small
    assert late.held == [2 * 4 * 3 * CHUNK * SIDE**2] * 4  # page-locked, too: two chunks a step


@pytest.mark.usefixtures("late")
def test_a_step_that_fails_sends_no_more() -> None:
    calls = list[int]()

    class Failing(Wide):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == 3:
                raise ValueError("no more")
            return super().forward(images)

    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=CHUNK)
    images, labels = torch.rand(8 * CHUNK, 3, SIDE, SIDE), torch.arange(8 * CHUNK) // 2
    with pytest.raises(ValueError, match="no more"):
        global_step(Failing(), images, labels, options, step=0)
    assert "feed" not in [thread.name for thread in threading.enumerate()]
