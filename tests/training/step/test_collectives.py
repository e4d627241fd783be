"""What workers tell each other: a fixed list, and how many bytes."""

import itertools
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from tests.toy import (
    Toy,
    run_step,
)
from tests.training.step.steps import MODES
from tests.workers import on_workers


def recorded(chunk_size: int, **options: Any) -> list[str]:
    """What a step does, in order: the collectives' names, and "model" for a chunk."""
    calls: list[str] = []
    names = ("all_gather", "all_reduce", "broadcast", "reduce_scatter", "all_gather_object")
    saved = {name: getattr(dist, name) for name in names}

    def noting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return saved[name](*arguments, **keywords)

        return call

    for name in names:
        setattr(dist, name, noting(name))
    try:
        model = Toy()
        model.register_forward_pre_hook(lambda *_: calls.append("model"))
        run_step(model, chunk_size, **options)
    finally:
        for name, function in saved.items():
            setattr(dist, name, function)
    return calls


def run_recorded() -> list[list[str]]:
    return [recorded(size, activations=mode) for size in (13, 6, 4) for mode in MODES]


def test_collectives_are_a_fixed_list_and_never_between_two_chunks() -> None:
    for calls in (calls for worker in on_workers(2, run_recorded) for calls in worker):
        assert [name for name in calls if name != "model"] == [
            "all_gather",  # numbers of images
            "all_gather",  # did the description go well
            "all_gather",  # width and precision of the descriptors
            "all_gather",  # descriptors
            "all_gather",  # labels
            "all_gather",  # ids of junk
            "all_gather",  # did the first pass of the loss go well
            "all_reduce",  # sums of the loss
            "all_gather",  # may the slopes be sent
            "all_gather",  # slopes
            "all_gather",  # did the second pass of the loss go well
            "all_gather",  # did the backward pass go well
            "all_reduce",  # gradients
        ]
        without_repeats = [name for name, _ in itertools.groupby(calls) if name == "model"]
        assert len(without_repeats) <= 2  # one stretch of chunks for each pass


def run_counted() -> list[int]:
    return [run_step(Toy(), 6, ignore=None).result.num_bytes]


def test_a_step_counts_the_bytes_it_receives() -> None:
    (found,) = on_workers(2, run_counted)[0]
    rows, dim, bins = 14, 6, 20  # the larger part: gathers are padded to it
    gathered = rows * 8 * (dim + 1 + 2 * (bins - 1)) + 7 * 8
    trainable = [p for p in Toy().parameters() if p.requires_grad]
    summed = 8 * (6 + 2 * bins) + 8 * sum(p.numel() + 1 for p in trainable)
    assert found == gathered + summed
