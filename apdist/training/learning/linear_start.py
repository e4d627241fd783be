"""The start of the linear layer, learned from training images before the first step.

All workers describe their part of the first batches and have the same sums of all of them; no
descriptor is kept. Neither the number of workers nor that of loaders changes what is learned.

Shapes: n images in a global batch, b of them on this worker, c in a chunk, c' pooled features, d
descriptor size.
"""

from collections.abc import Callable, Generator
from contextlib import closing

import torch
from torch import Tensor, nn

from apdist.config import Config
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.model.descriptor import DescriptorNet
from apdist.model.moments import Moments
from apdist.model.whitening import Whitening, pca_whitening_of, supervised_whitening_of
from apdist.training.step.chunks import chunk_counts, own_rows, sizes_of_workers
from apdist.training.step.collectives import Workers
from apdist.training.step.descriptors import gather_descriptors
from apdist.training.step.sharding import is_sharded, is_sharded_tensor, sharded_like


def start_linear(
    network: DescriptorNet,
    catalogue: Catalogue,
    plan: Plan,
    config: Config,
    workers: Workers,
    stop_requested: Callable[[], bool] = lambda: False,
) -> bool:
    """Give the linear layer what ``model.init`` says; False: a person asked to stop meanwhile.

    All must call it. The images are those of the first batches, augmented as in training.

    Args:
        network: as it will be trained.
        catalogue: what is trained on.
        plan: its batches.
        config: of the run, with a chunk size.
        workers: all of them.
        stop_requested: asked once a batch, on worker 0.

    Raises:
        ValueError: the descriptors do not vary along as many axes as are wanted.
    """
    device, was_training = network.mean.device, network.training
    moments = Moments(_linear(network).in_features, device)
    network.eval()
    try:
        for descriptors, labels in _described(network, catalogue, plan, config, workers):
            moments.add(descriptors, labels)
            asked = torch.tensor([workers.rank == 0 and stop_requested()], device=device).int()
            if int(workers.sum(asked)[0]):
                return False
    finally:
        network.train(was_training)
    _set(_linear(network), learned(moments, config.model.init, config.model.dim), workers)
    return True


def learned(moments: Moments, init: str, dim: int) -> Whitening:
    """The linear layer, with rows of length 1 in the mean of their squares.

    The L2 norm behind takes the scale out, and learning rates fit as for a random start.

    Raises:
        ValueError: too few images for so many dimensions.
    """
    try:
        if init == "whitening":
            found = supervised_whitening_of(moments, num_components=dim)
        else:  # rotated only: what is left out is all that similarities lose
            found = pca_whitening_of(moments, num_components=dim, power=0)
    except ValueError as error:
        raise ValueError(
            f"model.init {init} cannot start model.dim {dim} from {moments.count} training images: "
            f"{error}; raise model.init_images, take a smaller dim, or model.init random"
        ) from error
    length = found.projection.square().sum(dim=1).mean().sqrt()
    return Whitening(mean=found.mean, projection=found.projection / length)


def batches_of_start(config: Config, num_batches: int) -> int:
    """Batches that are learned from, of the ``num_batches`` of an epoch."""
    wanted = config.model.init_images // config.training.batch_size
    return max(1, min(num_batches, wanted))


def _described(
    network: DescriptorNet, catalogue: Catalogue, plan: Plan, config: Config, workers: Workers
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """What the linear layer would get of each batch, (n, c'), and the labels (n,)."""
    size, chunk = config.training.batch_size, config.training.images_at_once
    sizes = sizes_of_workers(size, chunk, workers.size)
    least = max(chunk_counts(sizes, chunk)) if is_sharded(network) else 0
    stream = TrainingStream(
        catalogue,
        plan,
        config.data,
        config.augment,
        lambda rows: rows[own_rows(len(rows), chunk, workers.rank, workers.size)],
    )
    count = batches_of_start(config, plan.summary.steps_per_epoch)
    bf16 = config.training.precision == "bf16"
    with closing(stream.batches(0, count)) as batches:
        for batch in batches:
            own = _pooled(network, batch.images, chunk, least, bf16)
            found = gather_descriptors(own, sizes, workers, network.mean.device)
            yield found, torch.from_numpy(catalogue.labels[plan.rows(batch.step)])


@torch.no_grad()
def _pooled(
    network: DescriptorNet, images: Tensor, chunk_size: int, least: int, bf16: bool
) -> Tensor | None:
    """What the linear layer would get of ``images`` (b, 3, s, s), (b, c'); None without images.

    The workers of a sharded network make at least ``least`` passes together.
    """
    device, found = network.mean.device, []
    chunks = list(images.split(chunk_size)) if len(images) else []
    blank = images.new_zeros((1, *images.shape[1:]))
    with torch.autocast(device.type, torch.bfloat16, bf16):
        for chunk in chunks:
            found.append(network(chunk.to(device), before_linear=True))
        for _ in range(least - len(chunks)):
            network(blank.to(device), before_linear=True)
    return torch.cat(found) if found else None


def _linear(network: DescriptorNet) -> nn.Linear:
    assert isinstance(network.linear, nn.Linear), "ModelConfig refuses others"
    return network.linear


@torch.no_grad()
def _set(linear: nn.Linear, start: Whitening, workers: Workers) -> None:
    """Copy the start of worker 0, lest another machine's solver differs in the last bits."""
    for parameter, value in zip((linear.weight, linear.bias), start.as_linear(), strict=True):
        told = value.to(parameter.dtype).contiguous()
        parameter.copy_(sharded_like(parameter, told))
    if not is_sharded_tensor(linear.weight):
        workers.broadcast_state(linear)
