"""Evaluation by one and by several workers."""

import dataclasses
from typing import Any

import pytest
import torch

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import evaluation_images
from apdist.model.pretrained import build_model
from apdist.retrieval.describe import describe_images, describe_split
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from apdist.training import evaluation
from apdist.training.evaluation import evaluate
from apdist.training.step.collectives import Workers
from apdist.training.step.sharding import shard_parameters
from tests.workers import on_workers


def evaluated(config: Config) -> RetrievalScores | None:
    torch.manual_seed(0)
    network, workers = build_model(config.model), Workers()
    if config.training.parameters == "sharded":
        shard_parameters(network, torch.device("cpu"), workers.size)
    return evaluate(network, read_catalogue(config.data.shards), config, workers)


def described_alone(config: Config) -> RetrievalScores:
    """The definition: describe the split in order, score it."""
    torch.manual_seed(0)
    split = evaluation_images(read_catalogue(config.data.shards), config.data, config.training.seed)
    size = config.data.image_size
    network = build_model(config.model)
    descriptors = describe_split(network, split, image_size=size, progress=lambda _: None)
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


def test_an_evaluation_resizes_as_the_backbone_was_trained(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, asked = build_model(small_config.model), []

    def noted(*arguments: Any, interpolation: str, **options: Any) -> Any:
        asked.append(interpolation)
        return describe_images(*arguments, interpolation=interpolation, **options)

    monkeypatch.setattr(evaluation, "describe_images", noted)
    network.traits = dataclasses.replace(network.traits, interpolation="nearest")
    evaluate(network, read_catalogue(small_config.data.shards), small_config, Workers())
    assert asked == ["nearest"]
