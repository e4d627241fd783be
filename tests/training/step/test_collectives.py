"""What workers tell each other: a fixed list, and how many bytes."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError
from tests.toy import (
    Toy,
    run_step,
)
from tests.training.step.steps import MODES
from tests.workers import on_workers

NAMES = ("all_gather", "all_reduce", "broadcast", "reduce_scatter", "all_gather_object")
SIZES = {13: (13, 13), 6: (12, 14), 4: (12, 14)}


def recorded(chunk_size: int, **options: Any) -> list[str]:
    """What a step does, in order: the collectives' names, and "model" for a chunk."""
    calls: list[str] = []
    saved = {name: getattr(dist, name) for name in NAMES}

    def noting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            calls.append(name)
            return saved[name](*arguments, **keywords)

        return call

    for name in NAMES:
        setattr(dist, name, noting(name))
    try:
        model = Toy()
        model.register_forward_pre_hook(lambda *_: calls.append("model"))
        run_step(model, chunk_size, worker_sizes=SIZES[chunk_size], **options)
    finally:
        for name, function in saved.items():
            setattr(dist, name, function)
    return calls


def run_recorded() -> list[list[str]]:
    return [recorded(size, activations=mode) for size in SIZES for mode in MODES]


def test_collectives_are_a_fixed_list_and_never_between_two_chunks() -> None:
    for calls in (calls for worker in on_workers(2, run_recorded) for calls in worker):
        assert [name for name in calls if name != "model"] == [
            "all_gather",  # status: did the description go well; sizes, width and precision
            *("broadcast", "broadcast"),  # descriptors, of each worker in place
            *("broadcast", "broadcast"),  # labels
            *("broadcast", "broadcast"),  # ids of junk
            "all_reduce",  # sums of the loss, NaN where its first pass has failed
            *("broadcast", "broadcast"),  # slopes
            "all_gather",  # status: did the rest go well; which parameters have a gradient
            "all_reduce",  # gradients
        ]
        without_repeats = [name for name, _ in itertools.groupby(calls) if name == "model"]
        assert len(without_repeats) <= 2  # one stretch of chunks for each pass


class Reads(TorchFunctionMode):
    """Notes where this project's collectives wait for a value that may lie on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in {"cpu", "item", "tolist", "nonzero", "to", "numpy"}:
            caller = sys._getframe(1)
            if Path(caller.f_code.co_filename).name in {"collectives.py", "guard.py"}:
                self.found.append(f"{caller.f_code.co_name}: {func.__name__}")
        return func(*args, **kwargs or {})


def run_reads() -> list[str]:
    with Reads() as reads:
        run_step(Toy(), 6, worker_sizes=(12, 14))
    return reads.found


def test_what_workers_tell_each_other_waits_for_the_device_once() -> None:
    for found in on_workers(2, run_reads):
        # The numbers are read from the CPU: see Workers.gather_number_lists.
        assert [name for name in found if not name.startswith("gather_number_lists")] == [
            "sum: cpu"
        ]
        assert found.count("gather_number_lists: tolist") == 2


def run_uneven_gather() -> tuple[int, bool]:
    """Bytes that are allocated while others' rows come, beside the room for all."""
    workers, sizes, width = Workers(), (3000, 1000), 64
    rows = torch.full((sum(sizes), width), -1.0)
    rows.split(list(sizes))[workers.rank].fill_(workers.rank)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        workers.fill_rows(rows, sizes)
    taken = sum(max(0, event.cpu_memory_usage) for event in record.events())
    expected = torch.tensor([0.0, 1.0]).repeat_interleave(torch.tensor(sizes))
    return taken, torch.equal(rows, expected[:, None].expand(-1, width))


def test_an_uneven_gather_holds_nothing_but_the_rows() -> None:
    for taken, is_right in on_workers(2, run_uneven_gather):
        assert is_right
        assert taken < 0.05 * 4000 * 64 * 4


def run_counted() -> list[int]:
    return [run_step(Toy(), 6, ignore=None, worker_sizes=(12, 14)).result.num_bytes]


def test_a_step_counts_the_bytes_it_receives() -> None:
    for rank, (found,) in enumerate(on_workers(2, run_counted)):
        rows, dim, bins = (14, 12)[rank], 6, 20  # those of the other
        gathered = rows * 8 * (dim + 1 + 2 * (bins - 1)) + (5 + 2) * 8
        used = [p for name, p in Toy().named_parameters() if name not in ("unused", "frozen")]
        assert found == gathered + 8 * (7 + 2 * bins) + 8 * sum(p.numel() for p in used)


def run_misinformed() -> str:
    sizes = (12, 14) if Workers().rank else (12, 20)
    try:
        run_step(Toy(), 6, worker_sizes=sizes)
    except BatchError as error:
        return str(error)
    return ""


def test_workers_that_were_told_other_sizes_are_all_refused() -> None:
    first, second = on_workers(2, run_misinformed)
    assert first == second
    assert "pass the same worker_sizes on every worker" in first
