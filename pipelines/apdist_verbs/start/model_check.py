"""The network and the loss of a training, built once here: a cluster should not find them wrong."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from apdist.config import Config, LoraConfig, LossConfig, ModelConfig, TrainingConfig
from apdist.data.decoders import resolved
from apdist_verbs.start.checks import check_images
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.config.training import Resize
    from apdist.loss.batch_loss import BatchLoss


def check_model(config: Config) -> str:
    """Build network and loss once here, ask for the decoder: a cluster should not find it missing.

    Returns:
        How much of the network is trained, in a line; empty where all of it is.

    Raises:
        ValueError: a package or a file with weights is not there, a pattern fits nothing, or the
            network takes no such images.
    """
    resolved(config.data.decoder)
    images = config.data.image_size, config.evaluation.resize
    return _build(config.model, config.lora, config.training, config.loss, images)


@lru_cache(maxsize=1)
@phase("building the network")
def _build(
    model: ModelConfig,
    lora: LoraConfig,
    training: TrainingConfig,
    loss: LossConfig,
    images: tuple[int, Resize],
) -> str:
    from apdist.training.learning.freezing import build_trainable, trained_share
    from apdist.training.learning.parameter_groups import parameter_groups

    network = build_trainable(model, lora, training)
    parameter_groups(network, training)
    check_loss(loss, network.dim)
    check_images(network, *images)
    trained, there = trained_share(network, training)
    until = f", more from step {training.unfreeze_at} on" if training.unfreeze_at else ""
    return f"{trained:,} of {there:,} parameters are trained{until}" if trained < there else ""


def check_loss(loss: LossConfig, dim: int) -> None:
    """Build the loss once here, with a few classes in place of those of the data.

    Raises:
        ValueError: a package is not there, or pytorch-metric-learning refuses name or arguments.
    """
    import numpy as np

    from apdist.config.losses import METRIC_LEARNING
    from apdist.loss.building import build_loss

    built = build_loss(loss, np.arange(2), dim)
    if any(kind.startswith(METRIC_LEARNING) for kind in (loss.kind, *loss.terms)):
        try_loss(built, dim)


def try_loss(loss: BatchLoss, dim: int) -> None:
    """Compute a loss of others once: some take no descriptors with labels, or no such argument.

    Raises:
        ValueError: it fails.
    """
    import torch
    from torch.nn.functional import normalize

    noise = torch.randn(8, dim, generator=torch.Generator().manual_seed(0))
    try:
        loss(normalize(noise, dim=1), torch.arange(8) % 2)
    except Exception as error:  # of another package's code
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"loss: {type(loss).__name__} cannot be computed of descriptors and labels with these "
            f"arguments ({reason}); change them, or take another loss"
        ) from error
