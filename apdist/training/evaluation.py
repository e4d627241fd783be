"""Evaluation while training goes on: all workers describe and rank the split together.

Shapes: n images in the split, m of them described by this worker, d descriptor size.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.config import Config
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import Fit
from apdist.data.loading.sequential import Views, shard_names
from apdist.retrieval.describe import describe_images
from apdist.retrieval.metrics import QueryScores, RetrievalScores, score_labelled_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.descriptors import gather_descriptors
from apdist.training.step.sharding import is_sharded


def evaluate(
    network: nn.Module,
    images: Catalogue,
    fit: Fit,
    config: Config,
    workers: Workers,
    num_parts: int = 1,
) -> list[RetrievalScores]:
    """Scores of ``images`` on worker 0, nothing on the others; all workers must call it.

    Args:
        network: maps (b, 3, h, w) uint8 to descriptors (b, p d), p of them side by side.
        images: to be described; each is a query against the rest.
        fit: how they are resized.
        config: of the run.
        workers: who take part.
        num_parts: p, each scored for itself.
    """
    descriptors = describe_together(images, network, fit, config, workers)
    scores = [
        score_labelled_together(part.contiguous(), images, workers)
        for part in descriptors.chunk(num_parts, dim=1)
    ]
    return scores if workers.rank == 0 else []


def score_labelled_together(
    descriptors: Tensor, images: Catalogue, workers: Workers
) -> RetrievalScores:
    """Scores of all ``descriptors`` (n, d), each a query against the rest; on every worker."""
    labels = torch.tensor(images.labels)
    return score_together(
        lambda rows: score_labelled_rows(descriptors, labels, rows),
        len(labels),
        descriptors.device,
        workers,
    )


def score_together(
    score: Callable[[slice], QueryScores], num_queries: int, device: torch.device, workers: Workers
) -> RetrievalScores:
    """Scores of all queries, on every worker; each has ``score`` rank its share of them.

    Raises:
        ValueError: no query has a positive; on all workers.
    """
    shares = [num_queries * rank // workers.size for rank in range(workers.size + 1)]
    own = score(slice(*shares[workers.rank : workers.rank + 2]))
    sizes = [stop - start for start, stop in pairwise(shares)]
    values = workers.gather_rows(own.values.to(device), sizes).cpu()
    curve = workers.sum(own.curve.to(device)).cpu()
    # Equal on all workers, so that all raise if no query has a positive.
    return QueryScores(own.names, values, curve).summary()


def describe_together(
    images: Catalogue,
    network: nn.Module,
    fit: Fit,
    config: Config,
    workers: Workers,
    views: Views | None = None,
) -> Tensor:
    """Descriptors (n, p d) by row, on every worker; each describes some shards.

    Args:
        images: to be described.
        network: as `evaluate` has it.
        fit: how they are resized.
        config: of the run.
        workers: who take part.
        views: n parts of images in place of them, by their numbers.
    """
    device = next(network.parameters()).device
    shards, size = shard_names(images), config.evaluation.batch_size
    own = shards[workers.rank :: workers.size]

    def go_on(has_images: bool) -> bool:
        return any(workers.gather_numbers(int(has_images), device))

    rows, descriptors = describe_images(
        network,
        images,
        fit=fit,
        batch_size=size,
        num_threads=config.data.num_decoders,
        shards=own,
        views=views,
        bf16=config.evaluation.precision == "bf16",
        go_on=go_on if any(map(is_sharded, network.modules())) else None,
    )
    return _gather(rows, descriptors, workers, device)


def _gather(
    rows: NDArray[np.int64], descriptors: Tensor, workers: Workers, device: torch.device
) -> Tensor:
    """Everyone's descriptors (n, d) by row, from the own rows (m,) and descriptors (m, d)."""
    sizes = workers.gather_numbers(len(rows), device)
    places = torch.from_numpy(rows).to(device)
    own = descriptors.to(device) if len(rows) else None
    gathered = gather_descriptors(own, sizes, workers, device)
    ordered = torch.empty_like(gathered)
    ordered[workers.gather_rows(places, sizes)] = gathered
    return ordered
