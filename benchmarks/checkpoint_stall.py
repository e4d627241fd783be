"""How long the loop waits for a checkpoint, in units of a plain copy of the same state.

    python benchmarks/checkpoint_stall.py --backbone resnet50 --repeats 7 --threads 2

A plain copy clones every tensor of the parameters and of Adam. Both are timed in turn while nothing
is being written, so that the disk takes no part.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch import nn

from apdist.config import ModelConfig
from apdist.model.pretrained import build_model
from apdist.training.events import Event
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.keeper import CheckpointOrigin, Keeper
from apdist.training.step.collectives import Workers

ORIGIN = CheckpointOrigin("benchmark", "benchmark")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = build_model(ModelConfig(backbone=options.backbone, dim=2048))
    optimizer = trained(network)
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(folder, None, Mailbox[Event](), Workers(), keep=1)
        keeper.restore(network, optimizer, ORIGIN, torch.device("cpu"))
        copies, waits = [], []
        for step in range(1, options.repeats + 1):
            copies.append(seconds(lambda: [tensor.clone() for tensor in tensors(optimizer)]))
            with keeper.written_at_the_end():
                save = functools.partial(keeper.save, step, network, optimizer, ORIGIN)
                waits.append(seconds(save))
    size = sum(tensor.nbytes for tensor in tensors(optimizer)) / 2**20
    copy, wait = statistics.median(copies), statistics.median(waits)
    print(f"state {size:.0f} MiB, median of {options.repeats} each, threads {options.threads}")
    print(f"plain copy {copy:.3f} s, wait for a checkpoint {wait:.3f} s: {wait / copy:.2f}")


def trained(network: nn.Module) -> torch.optim.Optimizer:
    """Adam with its moments, as after a step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    for parameter in network.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Parameters and moments; the buffers of the model are a thousandth."""
    parameters = [p.detach() for group in optimizer.param_groups for p in group["params"]]
    moments = [v for state in optimizer.state.values() for v in state.values()]
    return parameters + [value for value in moments if isinstance(value, torch.Tensor)]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
