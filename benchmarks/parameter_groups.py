"""What groups of parameters and activation checkpointing cost, in parts of one training step.

    python benchmarks/parameter_groups.py groups
    python benchmarks/parameter_groups.py checkpoints --backbone resnet50 --side 96 --batch 16

groups: an update of the weights with several groups less one with a single group, and that of the
weights' running mean, in parts of a step. checkpoints: memory of the graphs of stage 3, and the
time of a step in that of the same step without checkpoints. All ways are run in turns; on a CPU
processor time counts, of one thread: it does not grow while others compute.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from measuring import finish
from torch import nn

from apdist.config import Config, LoraConfig, ModelConfig, TrainingConfig, override
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.training.learning.averaging import RunningMean
from apdist.training.learning.freezing import build_trainable
from apdist.training.learning.optimizers import build_optimizer, update_weights
from apdist.training.learning.parameter_groups import ParameterGroup, parameter_groups
from apdist.training.step.activations import Activations, saved_bytes
from apdist.training.step.options import StepOptions
from apdist.training.step.recomputing import largest_block_bytes
from apdist.training.step.step import global_step

WAYS = {"norms without decay (default)": {}, "layer decay": {"training.layer_decay": 0.8}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("groups", "checkpoints"))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=64, help="of an image, in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (groups if args.what == "groups" else checkpoints)(args)


def groups(args: argparse.Namespace) -> None:
    """Print what updates with several groups take more than one with a single group."""
    base, network = Config(), built(args)
    step = step_of(network, args, "recompute")
    parameters = [p for p in network.parameters() if p.requires_grad]
    options = {name: override(base, changes) for name, changes in WAYS.items()}
    ways = {"one group": [ParameterGroup(parameters, 1.0, base.training.weight_decay)]}
    ways |= {name: parameter_groups(network, config.training) for name, config in options.items()}
    step()
    gradients = [p.grad for p in parameters]
    mean = RunningMean(network, 0.99)
    mean.follow()
    updates: dict[str, Callable[[], object]] = {}
    for name, found in ways.items():
        optimizer = build_optimizer(found, base.training)
        updates[name] = functools.partial(update, optimizer, base, parameters, gradients)
    averaging = {"running mean": functools.partial(mean.after_step, 100)}
    seconds = medians(updates | averaging, 10 * args.repeats, args.device)
    whole = medians({"step": step}, args.repeats, args.device)["step"]
    print(f"{args.backbone}, {args.batch} images of {args.side} pixels: a step takes {whole:.3f} s")
    print("| groups | number | update, ms | more, of a step |\n|---|---|---|---|")
    for name, found in ways.items():
        more = (seconds[name] - seconds["one group"]) / whole
        print(f"| {name} | {len(found)} | {1e3 * seconds[name]:.2f} | {100 * more:+.2f} % |")
    spent = seconds["running mean"]
    print(f"| running mean (training.ema) | | {1e3 * spent:.2f} | {100 * spent / whole:+.2f} % |")


def update(
    optimizer: torch.optim.Optimizer,
    config: Config,
    parameters: list[nn.Parameter],
    gradients: list[torch.Tensor | None],
) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    update_weights(optimizer, 0, config)


def medians(
    works: Mapping[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, float]:
    """Median seconds of each; in each round every work once."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    rounds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            began = clock()
            work()
            finish(torch.device(device))
            rounds[name].append(clock() - began)
    return {name: statistics.median(found) for name, found in rounds.items()}


def checkpoints(args: argparse.Namespace) -> None:
    """Print memory and time of steps with and without activation checkpointing."""
    networks = {
        name: built(args, checkpoint_blocks=on) for name, on in (("kept", False), ("again", True))
    }
    images = torch.zeros((args.chunk, 3, args.side, args.side), device=args.device)
    works: dict[str, Callable[[], object]] = {
        f"{mode}, {name}": step_of(network, args, mode)
        for mode in ("recompute", "store")
        for name, network in networks.items()
    }
    seconds = medians(works, args.repeats, args.device)
    held = {name: saved_bytes(network, images) for name, network in networks.items()}
    again = {name: largest_block_bytes(network, images) for name, network in networks.items()}
    chunks = -(-args.batch // args.chunk)
    unit = seconds["recompute, kept"]
    print(f"{args.backbone}, {args.batch} images of {args.side} pixels, chunks of {args.chunk}")
    print(
        "| activations, blocks | graphs in stage 3, MiB | time / `recompute`, kept |\n|---|---|---|"
    )
    for way, spent in seconds.items():
        mode, _, name = way.partition(", ")
        graphs = held[name] * (chunks if mode == "store" else 1) + again[name]
        print(f"| {way} | {graphs / 2**20:.0f} | {spent / unit:.2f} |")


def built(args: argparse.Namespace, **options: bool) -> nn.Module:
    model = ModelConfig(backbone=args.backbone)
    training = TrainingConfig(**options)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return build_trainable(model, LoraConfig(), training).to(args.device).train()


def step_of(network: nn.Module, args: argparse.Namespace, mode: Activations) -> Callable[[], None]:
    images = torch.rand((args.batch, 3, args.side, args.side))
    labels = torch.arange(args.batch) // 4
    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=args.chunk, activations=mode)

    def step() -> None:
        network.zero_grad()
        global_step(network, images, labels, options, step=0)

    return step


if __name__ == "__main__":
    main()
