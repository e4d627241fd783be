"""`training.chunk_size auto`: one number for a whole run, and a second try if it was too much."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import Config, config_hash, override
from apdist.model.descriptor import DescriptorNet
from apdist.training.events import ChunksResized, Event, Noticed, Started
from apdist.training.run_folder.runs import create_run, open_run
from apdist.training.sizing import sized
from apdist.training.step import memory
from apdist.training.step.collectives import Workers
from tests.training.test_loop import gone_on, losses, of_kind, trained

AUTO = {"training.chunk_size": "auto", "data.eval_split": "", "training.steps": 3}
AUTO |= {"training.activations": "recompute"}


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say how many images fit into a pass."""

    def room(number: int) -> None:
        monkeypatch.setattr(memory.MemoryProbe, "choose_chunk_size", lambda _: (number, "it fits"))

    return room


def recorded(config: Config, name: str) -> tuple[str, list[Event]]:
    """Train; what the workers post goes to the run as the driver would take it."""
    run, events = trained(config, name)
    for event in events:
        run.record(event)
    return run.uri, events


def test_the_run_keeps_the_number_that_was_found(small_config: Config, room_for: Any) -> None:
    room_for(16)
    uri, events = recorded(override(small_config, AUTO), "auto")
    found = open_run(uri).config
    assert found.training.chunk_size == 16
    (start,) = of_kind(events, Started)
    assert (start.chunk_size, start.chunk_size_reason) == (16, "it fits")
    _, same = recorded(override(small_config, AUTO | {"training.chunk_size": 16}), "told")
    assert losses(same) == losses(events)
    # Its checkpoint is one of a run that was told so.
    assert config_hash(found) == config_hash(override(found, {"run.name": "told"}))
    room_for(8)
    gone_on(open_run(uri))


def test_workers_that_start_again_take_the_number_of_those_before(
    small_config: Config, room_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(small_config, AUTO | {"run.name": "a"})
    network = DescriptorNet(config.model)
    run = create_run(config, "test")
    room_for(16)
    assert sized(config, run.uri, network, Workers()).chunk_size == 16
    run.record(ChunksResized(chunk_size=4))
    again = sized(config, run.uri, network, Workers())
    assert (again.chunk_size, again.may_shrink) == (4, False)
    assert Path(run.uri, "config.json").read_text().count('"chunk_size": 4') == 1


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say of how many images the last pass of a step is out of memory."""

    def most(number: int, at: int = 2) -> None:
        forward, large = DescriptorNet.forward, list[int]()

        def limited(network: DescriptorNet, images: Tensor) -> Tensor:
            if len(images) > number and torch.is_grad_enabled():
                large.append(len(images))
            if len(large) == at:  # of two chunks of each batch; those before left their gradients
                large.clear()
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(network, images)

        monkeypatch.setattr(DescriptorNet, "forward", limited)

    return most


@pytest.mark.parametrize(("loss", "accumulate"), [("ap", 1), ("arcface", 2)])
def test_a_first_step_that_does_not_fit_is_tried_once_more(
    small_config: Config, room_for: Any, fits: Any, loss: str, accumulate: int
) -> None:
    room_for(16)
    changes = {"loss.kind": loss, "training.accumulate": accumulate}
    config = override(small_config, AUTO | changes)
    _, expected = recorded(override(config, {"training.chunk_size": 8}), "told")
    fits(8, at=2 * accumulate)
    uri, events = recorded(config, "auto")
    assert open_run(uri).config.training.chunk_size == 8
    assert losses(events) == losses(expected)
    (notice,) = [event for event in of_kind(events, Noticed) if event.topic == "chunk_size"]
    assert notice.text == (
        "out of memory: 16 did not fit in the first step; going on with training.chunk_size 8"
    )


@pytest.mark.parametrize(("size", "most"), [("auto", 4), (16, 8)])
def test_what_is_too_large_again_or_was_asked_for_is_refused(
    small_config: Config, room_for: Any, fits: Any, size: Any, most: int
) -> None:
    room_for(16)
    fits(most)
    config = override(small_config, AUTO | {"training.chunk_size": size})
    with pytest.raises(ValueError, match="out of memory; chunk_size .* does not fit: try"):
        trained(config, "a")
