"""Evaluation sets, measured beside the own images; by two workers in test_measuring.py."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from apdist.config import Config, override
from apdist.config.training import named_set
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.data.ground_truth.ground_truth_file import NAME, read_ground_truth, write_ground_truth
from apdist.data.preparing.shards import Item, write_shards
from apdist.figures import EVALUATION, Seen, measure
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import build_model, load_model
from apdist.retrieval.describe import describe_split, describe_views
from apdist.retrieval.metrics import score_labelled, score_queries
from apdist.retrieval.protocols.searching import score_judged
from apdist.training.events import Ended, Evaluated, Event, SetMeasured, StepDone
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.runs import Run, create_run, whole_history
from apdist.training.sets import open_evaluation_set
from apdist.training.step.collectives import Workers
from apdist.training.worker import train
from tests.pictures import encode_picture, refuse
from tests.pipelines.measure.scenes import write_scenes

CPU = torch.device("cpu")
WORSE = {
    "loss.kind": "triplet",
    "training.batch_size": 16,
    "data.holdout_share": 0.5,
    "training.optimizer": "sgd",
    "training.schedule": "constant",
    "training.learning_rate": 10.0,
}
"""A step so large that the weights at the start are chosen; the loss compiles nothing."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of queries with boxes, and what they are to find."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root)
    return str(root)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards with the splits query and gallery."""
    root = str(tmp_path_factory.mktemp("divided"))
    write_divided(root)
    return root


def write_divided(root: str) -> None:
    splits = ["query", "gallery", "gallery"]
    items = [
        Item(f"{label}/{n}.png", label, str(label), split, content=(label, n))
        for label in range(5)
        for n, split in enumerate(splits)
    ]
    write_shards(items, encode_picture, root, shard_bytes=10_000, on_refused=refuse)


def measured_alone(network: DescriptorNet, config: Config) -> list[dict[str, float]]:
    """The definition: describe each split in order and the queries one by one, score them."""
    small, scenes, divided = (read_catalogue(s.shards) for s in config.evaluation.named_sets)
    fit = network.fit(config.data.image_size, config.evaluation.resize)

    def described(catalogue: Any, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        images = catalogue.select(split)
        found = describe_split(network, images, fit=fit, progress=lambda _: None)
        return found, torch.tensor(images.labels)

    first = score_labelled(*described(small, "test"))
    third = score_queries(*described(divided, "query"), *described(divided, "gallery"))
    truth = read_ground_truth(f"{scenes.root}/{NAME}")
    keys = scenes.column("key").to_pylist()
    views = [(keys.index(query.key), query.box) for query in truth.queries]
    asked = describe_views(network, scenes, views, fit=fit, progress=lambda _: None)
    names = scenes.select("database").column("key").to_pylist()
    parts = score_judged(asked, described(scenes, "database")[0], names, truth)
    labelled = [
        {f.key: value for f, value in measure(EVALUATION, scores, Seen.CONSOLE).items()}
        for scores in (first, third)
    ]
    judged = {f"{p.part}/{key}": value for p in parts for key, value in p.figures.items()}
    return [labelled[0], judged, labelled[1]]


def of_three(config: Config, scenes: str, divided: str) -> Config:
    sets = [f"small={config.data.shards}:test", f"scenes={scenes}", f"divided={divided}"]
    return override(config, {"evaluation.sets": sets, "evaluation.batch_size": 6})


def test_each_set_is_measured_by_its_protocol(
    small_config: Config, scenes: str, divided: str
) -> None:
    config = of_three(small_config, scenes, divided)
    torch.manual_seed(0)
    network = build_model(config.model)
    fit = network.fit(config.data.image_size, config.evaluation.resize)
    sets = [open_evaluation_set(wanted, config) for wanted in config.evaluation.named_sets]
    for found, wanted in zip(sets, measured_alone(network, config), strict=True):
        figures = found.measure(network, fit, config, Workers())
        assert figures == pytest.approx(wanted, abs=1e-6)
        assert [*figures] == [*wanted]  # the main figure first


class Dies(Mailbox[Event]):
    """Fails where a step is told."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.last = step

    def post(self, event: Event) -> None:
        super().post(event)
        if isinstance(event, StepDone) and event.step == self.last:
            raise RuntimeError("died")


def begun(config: Config, name: str) -> Run:
    return create_run(override(config, {"run.name": name}), "test")


def gone_on(run: Run, link: Mailbox[Event] | None = None) -> list[Any]:
    """The history to the end."""
    train(Job(run.config, run.uri), link or Mailbox[Event](), CPU)
    return list(whole_history(run.uri))


def of_sets(history: list[Any]) -> list[SetMeasured]:
    return [event for event in history if isinstance(event, SetMeasured)]


def places(history: list[Any]) -> list[tuple[str, int, int]]:
    return [(e.name, e.step, e.of_step) for e in of_sets(history)]


def test_sets_are_measured_at_both_ends_and_nothing_is_chosen_by_them(
    small_config: Config, scenes: str, divided: str
) -> None:
    config = override(small_config, WORSE | {"training.steps": 3})
    run = begun(of_three(config, scenes, divided), "with")
    history = gone_on(run)
    names = ["small", "scenes", "divided"]
    assert places(history) == [(n, 0, -1) for n in names] + [(n, 3, 0) for n in names]
    first, last = of_sets(history)[:3], of_sets(history)[3:]
    # The weights of the start were chosen.
    assert [event.figures for event in first] == [event.figures for event in last]
    assert all(one.is_of(two) for one, two in zip(first, last, strict=True))
    assert [(e.protocol, e.num_queries) for e in last] == [
        *[("labelled", 24), ("revisited", 8)],
        ("query-gallery", 5),
    ]
    network = load_model(run.uri).network
    assert isinstance(network, DescriptorNet)
    for event, wanted in zip(last, measured_alone(network, run.config), strict=True):
        assert event.figures == pytest.approx(wanted, abs=1e-6)
    without = [e for e in gone_on(begun(config, "without")) if isinstance(e, Ended | Evaluated)]
    others = [e for e in history if isinstance(e, Ended | Evaluated)]
    for one, other in zip(without, others, strict=True):
        alike = {"time_ms": 0, "seconds": 0.0} if isinstance(one, Evaluated) else {"time_ms": 0}
        assert dataclasses.replace(one, **alike) == dataclasses.replace(other, **alike)


def test_a_run_that_dies_measures_each_set_once_and_as_if_it_had_not(
    small_config: Config, scenes: str
) -> None:
    sets = [f"small={small_config.data.shards}:test", f"scenes={scenes}"]
    changes = WORSE | {"training.learning_rate": 0.01, "training.blend": [0.5, 1.0]}
    changes |= {"evaluation.sets": sets, "evaluation.sets_every_steps": 4}
    config = override(small_config, changes)
    expected = gone_on(begun(config, "whole"))
    names = ["small", "scenes"]
    steps = [(name, step) for step in (0, 4, 6) for name in names]
    assert [(name, step) for name, step, _ in places(expected)] == steps
    (watched,) = (e for e in expected if isinstance(e, Evaluated) and e.step == 3)
    assert watched.blend == 1.0  # the way that is not the first
    assert {e.blend for e in of_sets(expected) if e.step == 4} == {watched.blend}
    run = begun(config, "died")
    with pytest.raises(RuntimeError, match="died"):
        gone_on(run, Dies(5))
    history = gone_on(run)
    assert [(e.name, e.step, e.of_step, e.blend, e.figures) for e in of_sets(history)] == [
        (e.name, e.step, e.of_step, e.blend, e.figures) for e in of_sets(expected)
    ]


def test_a_set_that_comes_later_or_has_other_images_is_measured_at_once(
    small_config: Config, scenes: str, divided: str
) -> None:
    config = override(small_config, WORSE | {"evaluation.sets": [f"first={scenes}"]})
    run = begun(config, "a")
    with pytest.raises(RuntimeError, match="died"):
        gone_on(run, Dies(3))
    sets = [f"first={divided}", f"scenes={scenes}"]
    run.config = override(run.config, {"evaluation.sets": sets})
    found = places(gone_on(run))
    assert found[0] == ("first", 0, -1)
    assert found[1:3] == [("first", 2, -1), ("scenes", 2, -1)]  # of the checkpoint
    assert [(name, step) for name, step, _ in found[3:]] == [("first", 6), ("scenes", 6)]


def test_sets_may_be_measured_after_every_step(small_config: Config, divided: str) -> None:
    changes = {"loss.kind": "triplet", "training.batch_size": 16, "training.steps": 2}
    changes |= {"data.eval_split": "", "evaluation.sets_every_steps": 1}
    run = begun(override(small_config, changes | {"evaluation.sets": [f"set={divided}"]}), "a")
    assert places(gone_on(run)) == [("set", step, -1) for step in (0, 1, 2)]


def test_shards_of_one_split_need_not_say_which(small_config: Config, tmp_path: Path) -> None:
    items = [Item(f"{n}.png", n // 2, "", "all", content=(n // 2, n)) for n in range(4)]
    write_shards(items, encode_picture, str(tmp_path), shard_bytes=10_000, on_refused=refuse)
    found = open_evaluation_set(named_set(f"a={tmp_path}"), small_config)
    assert (found.split, found.num_queries) == ("all", 4)


def test_queries_of_labels_that_nobody_searches_are_refused(
    small_config: Config, tmp_path: Path
) -> None:
    items = [
        Item(f"{n}.png", n, "", split, content=(n, n))
        for n, split in enumerate(["query", "gallery", "gallery"])
    ]
    write_shards(items, encode_picture, str(tmp_path), shard_bytes=10_000, on_refused=refuse)
    with pytest.raises(ValueError, match="a: no image of the split 'query' has its label in 'gall"):
        open_evaluation_set(named_set(f"a={tmp_path}"), small_config)


def test_what_cannot_be_measured_is_refused_by_the_name_of_its_set(
    small_config: Config, scenes: str, divided: str, tmp_path: Path
) -> None:
    shards = small_config.data.shards
    for text, said in (
        (f"a={tmp_path}/nowhere", "nowhere/index.parquet does not exist; write shards first"),
        (f"a={shards}:tset", "split 'tset' is not in .*; it has test"),
        (f"a={divided}:gallry", "split 'gallry' is not in"),
        (f"a={scenes}:x", f"no split x to search in {scenes}, which has .*; name one: a={scenes}:"),
    ):
        with pytest.raises(ValueError, match=f"^evaluation.sets a: .*{said}"):
            open_evaluation_set(named_set(text), small_config)
    config = override(small_config, {"data.eval_split": ""})
    with pytest.raises(ValueError, match=f"name the one to measure: a={shards}:t"):
        open_evaluation_set(named_set(f"a={shards}"), config)


def test_a_ground_truth_of_other_images_is_refused_before_any_is_described(
    small_config: Config, scenes: str, tmp_path: Path
) -> None:
    catalogue, truth = write_scenes(tmp_path)
    first = dataclasses.replace(truth.queries[0], easy=("nobody",))
    queries = (first, *truth.queries[1:])
    write_ground_truth(str(tmp_path / NAME), GroundTruth(protocol="revisited", queries=queries))
    with pytest.raises(ValueError, match="evaluation.sets a: .* not in the database: 'nobody'"):
        open_evaluation_set(named_set(f"a={tmp_path}"), small_config)
    assert len(catalogue)
    other = open_evaluation_set(named_set(f"a={scenes}"), small_config)
    queries = truth.queries[1:]
    write_ground_truth(str(tmp_path / NAME), GroundTruth(protocol="revisited", queries=queries))
    assert (
        open_evaluation_set(named_set(f"a={tmp_path}"), small_config).fingerprint
        != other.fingerprint
    )
