"""Checks of gpu.py: the global step on one GPU, and what NCCL takes."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from gpu_figures import Check, Figure, Setting
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.config import ModelConfig
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.model.descriptor import DescriptorNet
from apdist.training.step.options import StepOptions
from apdist.training.step.sharding import full_tensor, shard_parameters
from apdist.training.step.step import global_step

# Backbone, side of an image, images, chunk.
NETWORKS = [("resnet50", 224, 512, 128), ("vit-b/16", 224, 512, 128), ("resnet101", 800, 64, 16)]
SMALL_NETWORKS = [("small", 32, 16, 8)]


def step(setting: Setting) -> Iterator[Figure]:
    """The three stages against a plain forward and backward pass of the same chunks."""
    for name, side, num_images, chunk in SMALL_NETWORKS if setting.dry else NETWORKS:
        network = network_of(name, 16 if setting.dry else 512).to(setting.device).train()
        shape = (num_images, 3, side, side)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=setting.device)
        for bf16, (activations, part) in itertools.product((False, True), ways(images, chunk)):
            work = functools.partial(plain_pass, network, part, chunk, bf16)
            plain = setting.median_ms(work, 3)
            yield compared(setting, network, part, chunk, bf16, activations, plain, name)
            setting.forget()


def ways(images: Tensor, chunk: int) -> list[tuple[str, Tensor]]:
    """Activation modes, and the images for each: the way to the host is long."""
    return [("recompute", images), ("store", images), ("offload", images[: 2 * chunk])]


def network_of(name: str, dim: int) -> nn.Module:
    """A backbone of apdist, or a transformer of transformers, with random weights."""
    if name != "vit-b/16":
        return DescriptorNet(ModelConfig(backbone=name, dim=dim))
    return Transformer(dim)


class Transformer(nn.Module):
    """ViT-B/16 and a linear layer on its class token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        transformers = importlib.import_module("transformers")
        self.backbone = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
        self.linear = nn.Linear(self.backbone.config.hidden_size, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, 224, 224) uint8 to descriptors (b, d)."""
        token = self.backbone(images / 255).last_hidden_state[:, 0]
        return normalize(self.linear(token).float(), dim=1)


def plain_pass(network: nn.Module, images: Tensor, chunk: int, bf16: bool) -> None:
    for part in images.split(chunk):
        with torch.autocast(images.device.type, torch.bfloat16, bf16):
            network(part).sum().backward()
    network.zero_grad()


def compared(
    setting: Setting,
    network: nn.Module,
    images: Tensor,
    chunk: int,
    bf16: bool,
    activations: str,
    plain: float,
    name: str,
) -> Figure:
    labels = torch.arange(len(images), device=images.device) // 4

    def one_step() -> None:
        options: dict[str, Any] = {"activations": activations, "bf16": bf16}
        loss = AveragePrecisionLoss()
        fixed = StepOptions(loss=loss, chunk_size=chunk, **options)
        global_step(network, images, labels, fixed, step=0)
        network.zero_grad()

    case = {"network": name, "side": images.shape[-1], "n": len(images), "chunk": chunk}
    case |= {"bf16": bf16, "activations": activations}
    try:
        peak, ms = setting.peak_mib(one_step), setting.median_ms(one_step, 3)
    except ValueError as error:
        return Figure("step", case, {"refused": str(error)[-90:]})
    found = {"images/s": round(len(images) / ms * 1e3), "against plain": round(ms / plain, 2)}
    return Figure("step", case, found | {"peak MiB": peak})


def collectives(setting: Setting) -> Iterator[Figure]:
    """One process: which tensors the backend takes, and FSDP2 over a mesh of one."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    dist.init_process_group("gloo" if setting.dry else "nccl", rank=0, world_size=1)
    try:
        yield from with_a_group(setting)
    finally:
        dist.destroy_process_group()


def with_a_group(setting: Setting) -> Iterator[Figure]:
    convolution = torch.randn(8, 4, 3, 3, device=setting.device)
    dist.broadcast(convolution.to(memory_format=torch.channels_last), src=0)
    gradients = []
    for sharded in (False, True):
        torch.manual_seed(0)
        network = DescriptorNet(ModelConfig(backbone="resnet18", dim=64)).to(setting.device)
        if sharded:
            shard_parameters(network, setting.device, 1)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (32, 3, 64, 64), dtype=torch.uint8, generator=generator)
        labels = torch.arange(32, device=setting.device) // 4
        global_step(
            network.train(),
            images.to(setting.device),
            labels,
            StepOptions(loss=AveragePrecisionLoss(), chunk_size=8),
            step=0,
        )
        parts = [
            full_tensor(p.grad).flatten().double()
            for p in network.parameters()
            if p.grad is not None
        ]
        gradients.append(torch.cat(parts))
    error = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    yield Figure("collectives", {"what": "FSDP2 against whole"}, {"error": f"{error.item():.1e}"})


CHECKS = [Check("step", 70, step), Check("collectives", 20, collectives)]
