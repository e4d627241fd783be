"""The global step inside a torchrun project of your own: one AP batch over all processes.

    torchrun --nproc-per-node 2 examples/step_under_torchrun.py

Each process has its own part of the batch; the loss and its gradient are those of one process with
the whole batch, whatever the number of processes and the size of a chunk, but for the rounding of
sums, which a training amplifies from step to step.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.loss import AveragePrecisionLoss
from apdist.training import StepOptions, global_step, own_rows

BATCH_SIZE, CHUNK_SIZE, STEPS = 256, 32, 20


class Network(nn.Module):
    """(c, 3, 16, 16) images to (c, 32) descriptors; not wrapped in DDP."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 4, stride=2), nn.ReLU(), nn.Flatten())
        self.last = nn.Linear(16 * 7 * 7, 32)

    def forward(self, images: Tensor) -> Tensor:
        return normalize(self.last(self.layers(images)), dim=1)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """The global batch of a step, the same in every process: classes of four noisy patterns."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.arange(BATCH_SIZE) // 4
    patterns = torch.randn(BATCH_SIZE // 4, 3, 4, 4, generator=generator)
    images = nn.functional.interpolate(patterns[labels], size=16)
    return images + torch.randn(images.shape, generator=generator), labels


def main() -> None:
    dist.init_process_group("gloo")
    rank, num_workers = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same weights everywhere
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=CHUNK_SIZE)
    rows = own_rows(BATCH_SIZE, CHUNK_SIZE, rank, num_workers)  # whole chunks, in order
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        result = global_step(network, images[rows], labels[rows], options, step=step)
        optimizer.step()  # the gradients are summed over the processes already
        if rank == 0:
            print(f"step {step}: loss {result.loss:.6f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
