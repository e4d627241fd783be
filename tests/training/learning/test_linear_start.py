"""The linear layer is learned before the first step, alike on all workers, once a run."""

import pytest
import torch
from torch import Tensor

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import build_plan
from apdist.model.descriptor import DescriptorNet
from apdist.model.moments import Moments
from apdist.model.pretrained import build_model
from apdist.model.whitening import learn_pca_whitening
from apdist.training import worker
from apdist.training.events import Event, PhaseBegan, StepDone
from apdist.training.learning.linear_start import learned, start_linear
from apdist.training.mailbox import Mailbox
from apdist.training.step.collectives import Workers
from apdist.training.step.sharding import full_tensor, shard_parameters
from tests.training.test_loop import StopAfter, gone_on, trained
from tests.workers import on_workers

DIM = 12


@pytest.fixture
def config(small_config: Config) -> Config:
    # Two batches; chunks of 12 leave one of three workers without any.
    changes = {"model.init": "pca", "model.dim": DIM, "training.batch_size": 24}
    return override(small_config, changes | {"training.chunk_size": 12})


def started(config: Config, sharded: bool = False) -> tuple[Tensor, Tensor]:
    """Weight and bias as a worker has them before the first step."""
    torch.manual_seed(0)
    network = build_model(config.model).train()
    workers = Workers()
    if sharded:
        shard_parameters(network, torch.device("cpu"), workers.size)
    images = training_images(read_catalogue(config.data.shards), config.data, 0)
    assert start_linear(network, images, build_plan(images.labels, config), config, workers)
    assert network.training
    return full_tensor(network.linear.weight.detach()), full_tensor(network.linear.bias.detach())


def pooled(config: Config) -> Tensor:
    """What the linear layer gets of the images of an epoch, all at once."""
    torch.manual_seed(0)
    network: DescriptorNet = build_model(config.model).eval()
    images = training_images(read_catalogue(config.data.shards), config.data, 0)
    plan = build_plan(images.labels, config)
    stream = TrainingStream(images, plan, config.data, config.augment, lambda rows: rows)
    with torch.no_grad():
        return torch.cat(
            [
                network(chunk, before_linear=True)
                for batch in stream.batches(0, plan.summary.steps_per_epoch)
                for chunk in batch.images.split(config.training.images_at_once)
            ]
        )


def test_it_is_learned_without_dropout_and_leaves_the_mode_as_it_was(config: Config) -> None:
    network, modes = build_model(config.model).train(), set[bool]()
    network.register_forward_pre_hook(lambda module, _: modes.add(module.training))
    images = training_images(read_catalogue(config.data.shards), config.data, 0)
    assert start_linear(network, images, build_plan(images.labels, config), config, Workers())
    assert (modes, network.training) == ({False}, True)


def test_pca_is_that_of_all_descriptors_of_the_epoch(config: Config) -> None:
    weight, bias = started(config)
    descriptors = pooled(config)
    assert len(descriptors) == 48
    expected = learn_pca_whitening(descriptors, num_components=DIM, power=0)
    torch.testing.assert_close(weight, expected.projection.float())
    torch.testing.assert_close(bias, expected.as_linear()[1].float())


def started_twice(config: Config) -> list[tuple[Tensor, Tensor]]:
    return [started(config), started(config, sharded=True)]


def test_all_workers_learn_what_one_does_to_the_last_bit(config: Config) -> None:
    alone = started(config)
    for plain, sharded in on_workers(3, started_twice, config):
        assert torch.equal(plain[0], alone[0])
        assert torch.equal(plain[1], alone[1])
        torch.testing.assert_close(sharded, alone, rtol=1e-4, atol=1e-5)


def test_whitening_makes_differences_within_classes_white_up_to_a_scale() -> None:
    torch.manual_seed(0)
    rows, labels = torch.randn(300, 5) @ torch.randn(5, 5), torch.arange(300) // 3
    moments = Moments(5)
    moments.add(rows, labels)
    weight = learned(moments, "whitening", 5).projection
    spread = weight @ moments.spread @ weight.T
    torch.testing.assert_close(spread, torch.eye(5).double() * spread[0, 0], rtol=1e-6, atol=1e-9)
    assert float(weight.square().sum(dim=1).mean()) == pytest.approx(1)


def test_too_few_images_are_refused_with_what_to_do() -> None:
    moments = Moments(8)
    moments.add(torch.randn(5, 8))
    with pytest.raises(ValueError, match=r"pca cannot start model.dim 8 from 5 .*; raise"):
        learned(moments, "pca", 8)


def phases(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, PhaseBegan)]


def test_a_run_that_goes_on_keeps_the_start_that_its_checkpoint_has(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = trained(config, "a", StopAfter(2))
    assert "learning the start of the linear layer" in phases(events)
    monkeypatch.setattr(worker, "start_linear", lambda *_: pytest.fail("learned again"))
    assert "learning the start of the linear layer" not in phases(gone_on(run))


def test_a_stop_while_it_is_learned_ends_the_training_before_its_first_step(
    config: Config,
) -> None:
    link = Mailbox[Event]()
    link.request_stop()
    run, events = trained(config, "a", link)
    assert not [event for event in events if isinstance(event, StepDone)]
    assert sum(isinstance(event, StepDone) for event in gone_on(run)) == 6


def test_more_dimensions_than_there_are_are_refused(config: Config) -> None:
    with pytest.raises(ValueError, match="at most the 128 dimensions that small has"):
        build_model(override(config, {"model.dim": 129}).model)
