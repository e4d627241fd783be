"""Evaluation while training goes on: all workers describe and rank the split together.

Shapes: n images in the split, m of them described by this worker, d descriptor size.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.config import Config
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.catalogue.selection import evaluation_images
from apdist.data.loading.sequential import shard_names
from apdist.model.descriptor import DescriptorNet
from apdist.retrieval.describe import describe_images, num_batches
from apdist.retrieval.metrics import QueryScores, RetrievalScores, score_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.descriptors import gather_descriptors
from apdist.training.step.sharding import is_sharded


def evaluate(
    network: DescriptorNet, catalogue: Catalogue, config: Config, workers: Workers
) -> RetrievalScores | None:
    """Scores of the evaluation split on worker 0, None on the others; all workers must call it."""
    split = evaluation_images(catalogue, config.data, config.training.seed)
    descriptors = _describe_together(network, split, config, workers)
    scores = _score_together(descriptors, torch.tensor(split.labels), workers)
    return scores if workers.rank == 0 else None


def _score_together(descriptors: Tensor, labels: Tensor, workers: Workers) -> RetrievalScores:
    """Scores of all ``descriptors`` (n, d); each worker ranks its share of the queries."""
    shares = [len(labels) * rank // workers.size for rank in range(workers.size + 1)]
    own = score_rows(descriptors, labels, slice(*shares[workers.rank : workers.rank + 2]))
    sizes = [stop - start for start, stop in pairwise(shares)]
    values = workers.gather_rows(own.values.to(descriptors.device), sizes).cpu()
    curve = workers.sum(own.curve.to(descriptors.device)).cpu()
    # Equal on all workers, so that all raise if no query has a positive.
    return QueryScores(own.names, values, curve).summary()


def _describe_together(
    network: DescriptorNet, split: Catalogue, config: Config, workers: Workers
) -> Tensor:
    """Descriptors (n, d) in the order of the split, on every worker; each describes some shards."""
    device = next(network.parameters()).device
    shards, size = shard_names(split), config.evaluation.batch_size
    own = shards[workers.rank :: workers.size]
    num_passes = workers.gather_numbers(num_batches(split, own, size), device)
    rows, descriptors = describe_images(
        network,
        split,
        image_size=config.data.image_size,
        interpolation=network.traits.interpolation,
        batch_size=size,
        num_threads=config.data.num_decoders,
        shards=own,
        bf16=config.evaluation.precision == "bf16",
        min_passes=max(num_passes) if is_sharded(network) else 0,
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
