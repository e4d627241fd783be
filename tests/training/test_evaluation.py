"""Evaluation by one and by several workers."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import evaluation_images
from apdist.model.pretrained import build_model
from apdist.retrieval.describe import describe_split
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from apdist.training.evaluation import evaluate
from apdist.training.step.collectives import Workers
from apdist.training.step.sharding import shard_parameters
from tests.workers import on_workers

BF16 = torch.bfloat16


class Both(nn.Module):
    """The descriptors of a network twice, side by side."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found = self.network(images)
        return torch.cat((found, -found), dim=1)  # a rotation, which no similarity sees


def evaluated(config: Config) -> RetrievalScores | None:
    torch.manual_seed(0)
    network, workers = build_model(config.model), Workers()
    if config.training.parameters == "sharded":
        shard_parameters(network, torch.device("cpu"), workers.size)
    catalogue = read_catalogue(config.data.shards)
    split = evaluation_images(catalogue, config.data, config.training.seed)
    both, fit = Both(network), network.fit(config.data.image_size, "crop")
    found = evaluate(both, split, fit, config, workers, num_parts=2)
    if not found:
        return None
    first, second = found
    assert first.mean_average_precision == second.mean_average_precision
    return first


def described_alone(config: Config) -> RetrievalScores:
    """The definition: describe the split in order, score it."""
    torch.manual_seed(0)
    split = evaluation_images(read_catalogue(config.data.shards), config.data, config.training.seed)
    size = config.data.image_size
    network = build_model(config.model)
    descriptors = describe_split(
        network, split, fit=network.fit(size, "crop"), progress=lambda _: None
    )
    return score_labelled(descriptors, torch.tensor(split.labels))


@pytest.mark.parametrize(("num_workers", "parameters"), [(1, "replicated"), (2, "sharded")])
def test_workers_find_together_what_one_finds_alone_and_the_first_knows_it(
    small_config: Config, num_workers: int, parameters: str
) -> None:
    # 13 and 11 images in batches of 6: sharded workers must make equally many passes all the same.
    changes = {"training.parameters": parameters, "evaluation.batch_size": 6}
    changes |= {"ray.num_workers": num_workers}
    config = override(small_config, changes)
    first, *others = on_workers(num_workers, evaluated, config)
    assert others == [None] * (num_workers - 1)
    expected = described_alone(config)
    for field in dataclasses.fields(RetrievalScores):
        found, wanted = (getattr(s, field.name) for s in (first, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


class Watched(Both):
    """Keeps how many images it was shown at once, and in which precision it multiplied."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.seen: list[tuple[int, torch.dtype]] = []

    def forward(self, images: Tensor) -> Tensor:
        ones = torch.ones(1, 1)
        self.seen.append((len(images), (ones @ ones).dtype))
        return super().forward(images)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", BF16)])
def test_an_evaluation_has_the_batch_size_and_the_precision_of_its_options(
    small_config: Config, precision: str, dtype: torch.dtype
) -> None:
    config = override(small_config, {"evaluation.batch_size": 7, "evaluation.precision": precision})
    split = evaluation_images(read_catalogue(config.data.shards), config.data, 0)
    network = build_model(config.model)
    watched = Watched(network)
    evaluate(watched, split, network.fit(config.data.image_size, "crop"), config, Workers())
    sizes = [size for size, _ in watched.seen]
    assert max(sizes) == 7
    assert sum(sizes) == len(split)
    assert {seen for _, seen in watched.seen} == {dtype}


def test_a_network_is_shown_images_as_its_backbone_was_trained(small_config: Config) -> None:
    network = build_model(small_config.model)
    traits = {"interpolation": "nearest", "stride": 14}
    network.traits = dataclasses.replace(network.traits, **traits)
    fit = network.fit(28, "longest")
    assert (fit.interpolation, fit.multiple, fit.size(40, 22)) == ("nearest", 14, (28, 14))
