"""Images a second that a CPU describes, by how many go through the network together.

    python benchmarks/pieces.py --threads 2

Evaluation mode, random weights. Rounds alternate between the sizes, and the fastest of each counts.
"""

from __future__ import annotations

import argparse
import functools

import torch
from measuring import Work, fastest
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.model.descriptor import DescriptorNet
from apdist.model.pieces import fastest_size

SIZES = (1, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0", "resnet50"])
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    side = arguments.side
    print(f"{side} px, {fastest_size(side, side)} at a time unless asked for less")
    print("| network |" + "".join(f" {size} at a time |" for size in SIZES))
    print("|---|" + "---|" * len(SIZES))
    for backbone in arguments.backbones:
        network = DescriptorNet(ModelConfig(backbone=backbone, dim=256)).eval()
        images = torch.randint(256, (max(SIZES), 3, side, side), dtype=torch.uint8)
        works: dict[str, Work] = {
            str(size): functools.partial(described, network, images, size) for size in SIZES
        }
        described(network, images, 8)
        spent = fastest(works, arguments.rounds, images.device)
        rates = (f" {len(images) / spent[str(size)].wall:.0f} |" for size in SIZES)
        print(f"| {backbone} |" + "".join(rates), flush=True)


@torch.no_grad()
def described(network: nn.Module, images: Tensor, size: int) -> None:
    for piece in images.split(size):
        network(piece)


if __name__ == "__main__":
    main()
