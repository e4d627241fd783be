"""The loss alone, in a plain PyTorch loop: no Ray, no shards, one process.

    python examples/loss_in_a_loop.py

Any network that gives vectors of unit length will do. Here a linear map has to find the few of 64
numbers that tell 60 classes apart; the classes that are scored at the end were never trained on.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.loss import AveragePrecisionLoss
from apdist.retrieval import score_labelled


def pictures(num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, 64) inputs of 8 images a class, and their labels (n,): most of each is noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_classes).repeat_interleave(8)
    what = torch.randn(num_classes, 8, generator=generator)[labels]
    noise = 2 * torch.randn(len(labels), 56, generator=generator)
    return torch.cat((what, noise), dim=1), labels


def describe(network: nn.Module, inputs: Tensor) -> Tensor:
    return normalize(network(inputs), dim=1)


def score(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Exact mAP, every image a query against the rest."""
    with torch.no_grad():
        return score_labelled(describe(network, inputs), labels).mean_average_precision


def main() -> None:
    torch.manual_seed(0)
    inputs, labels = pictures(60, seed=1)
    unseen = pictures(40, seed=2)
    network = nn.Linear(64, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loss = AveragePrecisionLoss(num_bins=20)

    print(f"before: mAP {score(network, *unseen):.3f} on unseen classes")
    for step in range(1, 101):
        optimizer.zero_grad()
        value = loss(describe(network, inputs), labels)
        value.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step}: loss {value.item():.3f}")
    print(f"after:  mAP {score(network, *unseen):.3f}")


if __name__ == "__main__":
    main()
