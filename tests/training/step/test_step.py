"""The global step against one autograd graph over the whole batch, in float64."""

import copy
import itertools
import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.loss import gradient
from apdist.loss.baselines import Contrastive
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.model.descriptor import DescriptorNet
from apdist.training.run_folder.checkpoint import (
    Marker,
    load_state,
    newest_sound,
    save_checkpoint,
    whole_state,
)
from apdist.training.step import activations, batch_norm, chunks, sharding, step
from apdist.training.step.activations import saved_bytes
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError, WorkerError
from apdist.training.step.options import StepOptions
from apdist.training.step.randomness import chunk_seed
from apdist.training.step.sharding import shard_parameters
from apdist.training.step.step import global_step
from tests.toy import (
    CHUNK_SIZES,
    SEED,
    SIZE,
    STEP,
    Answer,
    Toy,
    batch,
    error_of,
    gradients,
    one_graph,
    run_step,
)
from tests.workers import on_workers

MODES = ("recompute", "store", "offload")
CASES = list(itertools.product(("frozen", "chunk"), CHUNK_SIZES, MODES))


def run_cases() -> list[Answer]:
    return [run_step(Toy(batch_norm=norm), size, activations=mode) for norm, size, mode in CASES]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_a_step_is_one_graph_over_the_batch(num_workers: int) -> None:
    answers = on_workers(num_workers, run_cases)
    for i, (norm, chunk_size, mode) in enumerate(CASES):
        expected, buffers, loss = one_graph(Toy(batch_norm=norm), chunk_size)
        for answer in (worker[i] for worker in answers):
            assert error_of(answer.gradients, expected) < 1e-10, (norm, chunk_size, mode)
            for name, buffer in buffers.items():
                torch.testing.assert_close(answer.buffers[name], buffer, rtol=1e-10, atol=1e-12)
            assert answer.result.loss == pytest.approx(loss, abs=1e-12)
            found = answer.result.diagnostics
            assert (found.num_queries, found.num_lone_queries) == (SIZE - 1, 1)


def run_sharded() -> list[Answer]:
    device = torch.device("cpu")
    answers = []
    for norm, size, mode in CASES:
        model = Toy(batch_norm=norm)
        shard_parameters(model, device, 2)
        answers.append(run_step(model, size, activations=mode))
    return answers


def test_sharded_parameters_get_the_same_gradient() -> None:
    for i, (norm, chunk_size, mode) in enumerate(CASES):
        if i == 0:
            workers = on_workers(2, run_sharded)
        expected, buffers, loss = one_graph(Toy(batch_norm=norm), chunk_size)
        for answer in (worker[i] for worker in workers):
            assert error_of(answer.gradients, expected) < 1e-10, (norm, chunk_size, mode)
            assert answer.result.loss == pytest.approx(loss, abs=1e-12)
            for name, buffer in buffers.items():
                torch.testing.assert_close(answer.buffers[name], buffer, rtol=1e-10, atol=1e-12)


def run_blocks(sharded: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    sharding._SMALLEST_UNIT = 1
    torch.manual_seed(0)
    network = DescriptorNet(ModelConfig(dim=16)).to(dtype).train()
    if sharded:
        shard_parameters(network, torch.device("cpu"), 2)
        assert sum(isinstance(m, sharding.FSDPModule) for m in network.modules()) > 4
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    workers, labels = Workers(), torch.arange(12) // 3
    rows = own_rows(12, 5, workers.rank, workers.size)
    global_step(
        network,
        images[rows],
        labels[rows],
        StepOptions(loss=AveragePrecisionLoss(), chunk_size=5, seed=0),
        step=0,
    )
    return gradients(network)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_network_sharded_block_by_block_gets_the_same_gradient(
    dtype: torch.dtype, tolerance: float
) -> None:
    expected = run_blocks(False, dtype)
    for found in on_workers(2, run_blocks, True, dtype):
        assert error_of(found, expected) < tolerance


def test_without_dropout_chunks_change_nothing() -> None:
    model = Toy(dropout=0.0)
    whole, _, _ = one_graph(model, SIZE)
    assert error_of(run_step(model, 4).gradients, whole) < 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_a_step_adds_to_the_gradient_that_is_there(mode: str) -> None:
    model = Toy()
    once = run_step(copy.deepcopy(model), 6, activations=mode).gradients
    model.first.weight.grad = torch.ones_like(model.first.weight)
    twice = run_step(model, 6, activations=mode).gradients
    torch.testing.assert_close(twice["first.weight"], once["first.weight"] + 1)
    torch.testing.assert_close(twice["last.weight"], once["last.weight"])


# Mutations: each takes one thing away that the first test must miss.


def no_replay() -> None:
    chunks.seeded = lambda *_: nullcontext()  # type: ignore[attr-defined, assignment]
    step.check_replay = lambda *_: None  # type: ignore[attr-defined, assignment]


def no_sum_of_gradients() -> None:
    Workers.sum_gradients = lambda *_: None  # type: ignore[assignment, method-assign]


def mean_of_gradients() -> None:
    right = Workers.sum_gradients

    def mean(self: Workers, parameters: Any) -> None:
        parameters = list(parameters)
        right(self, parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= self.size

    Workers.sum_gradients = mean  # type: ignore[method-assign]


def own_number_of_queries() -> None:
    Workers.sum = lambda _self, values: values  # type: ignore[assignment, method-assign]


def no_gradient_as_an_image_of_others() -> None:
    right = Workers.gather_rows

    def own_tables(self: Workers, rows: Tensor, sizes: Any) -> Tensor:
        gathered = right(self, rows, sizes)
        if rows.dim() == 3:  # slopes (b, 2, M-1)
            start = sum(sizes[: self.rank])
            gathered[:start] = 0
            gathered[start + len(rows) :] = 0
        return gathered

    Workers.gather_rows = own_tables  # type: ignore[method-assign]


def no_guard_of_batch_norm() -> None:
    batch_norm.ChunkStatistics.recording = lambda _: nullcontext()  # type: ignore[assignment, method-assign]


def chunks_numbered_by_worker() -> None:
    right = step.numbered_chunks  # type: ignore[attr-defined]
    step.numbered_chunks = lambda i, c, _, r: right(i, c, 0, r)  # type: ignore[attr-defined]


MUTATIONS: dict[str, tuple[Callable[[], None], float]] = {
    "nothing": (lambda: None, 0.0),
    "random state not replayed": (no_replay, 0.1),
    "gradients not summed": (no_sum_of_gradients, 0.1),
    "gradients averaged": (mean_of_gradients, 0.45),
    "queries counted by each worker": (own_number_of_queries, 0.05),
    "key side missing": (no_gradient_as_an_image_of_others, 0.1),
    "chunks numbered by each worker": (chunks_numbered_by_worker, 0.1),
}


def run_mutated(names: list[str]) -> list[dict[str, Tensor]]:
    originals = [
        (chunks, "seeded"),
        (step, "check_replay"),
        (step, "numbered_chunks"),
        (Workers, "sum_gradients"),
        (Workers, "sum"),
        (Workers, "gather_rows"),
    ]
    saved = [(owner, name, getattr(owner, name)) for owner, name in originals]
    found = []
    for name in names:
        MUTATIONS[name][0]()
        found.append(run_step(Toy(), 4).gradients)
        for owner, attribute, value in saved:
            setattr(owner, attribute, value)
    return found


def test_each_deliberate_mistake_spoils_the_gradient() -> None:
    expected, _, _ = one_graph(Toy(), 4)
    for name, found in zip(MUTATIONS, on_workers(2, run_mutated, list(MUTATIONS))[0], strict=True):
        error, margin = error_of(found, expected), MUTATIONS[name][1]
        assert error > margin if margin else error < 1e-10, (name, error)


def test_without_its_guard_batch_norm_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Toy(batch_norm="chunk")
    _, buffers, _ = one_graph(model, 4)
    monkeypatch.setattr(batch_norm.ChunkStatistics, "recording", lambda _: nullcontext())
    found = run_step(model, 4).buffers
    assert int(found["norm.num_batches_tracked"]) > int(buffers["norm.num_batches_tracked"])
    assert (found["norm.running_mean"] - buffers["norm.running_mean"]).abs().max() > 0.01


# Training with several numbers of workers.


def train_steps(start: int, stop: int, run: str, sharded: bool = False) -> dict[str, Tensor]:
    """Steps of Adam from the checkpoint of ``start`` in ``run``, leaving one of ``stop``."""
    model, workers = Toy(batch_norm="chunk"), Workers()
    if sharded:
        shard_parameters(model, torch.device("cpu"), workers.size)
    trainable = [p for p in model.parameters() if p.requires_grad]
    # The bias before a batch norm has gradient 0: the usual eps would blow up its rounding errors.
    optimizer = torch.optim.Adam(trainable, lr=0.01, eps=1e-6)
    if start:
        found_there = newest_sound(run)
        assert found_there is not None
        assert found_there.marker.step == start
        load_state(found_there, model, optimizer, config_hash="x", data_hash="y")
    for number in range(start, stop):
        images, labels, _ = batch(number)
        rows = own_rows(SIZE, 6, workers.rank, workers.size)
        optimizer.zero_grad()
        global_step(
            model,
            images[rows],
            labels[rows],
            StepOptions(loss=AveragePrecisionLoss(), chunk_size=6, seed=0),
            step=number,
        )
        optimizer.step()
    state = whole_state(model, optimizer)
    if workers.rank == 0:
        save_checkpoint(run, state, Marker(step=stop, config_hash="x", data_hash="y"))
    found: dict[str, Tensor] = state["model"]
    return found


def assert_same_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_workers", [2, 3])
def test_the_number_of_workers_does_not_change_what_is_learned(
    num_workers: int, tmp_path: Path
) -> None:
    alone = train_steps(0, 20, str(tmp_path / "alone"))
    assert not torch.equal(alone["last.weight"], Toy().last.weight)
    found = on_workers(num_workers, train_steps, 0, 20, str(tmp_path / "run"))[0]
    assert_same_weights(found, alone)


def test_workers_may_come_and_go_at_checkpoints(tmp_path: Path) -> None:
    alone = train_steps(0, 20, str(tmp_path / "alone"))
    run = str(tmp_path / "run")
    train_steps(0, 6, run)
    on_workers(3, train_steps, 6, 13, run)
    assert_same_weights(on_workers(2, train_steps, 13, 20, run)[0], alone)


def test_parameters_may_be_sharded_from_a_checkpoint_on(tmp_path: Path) -> None:
    alone = train_steps(0, 20, str(tmp_path / "alone"))
    run = str(tmp_path / "run")
    train_steps(0, 9, run)
    on_workers(2, train_steps, 9, 15, run, True)
    assert_same_weights(train_steps(15, 20, run), alone)


def train_twice(run: str) -> list[dict[str, Tensor]]:
    return [train_steps(0, 20, f"{run}/{i}") for i in range(2)]


def test_the_same_workers_learn_the_same_to_the_last_bit(tmp_path: Path) -> None:
    first, second = on_workers(2, train_twice, str(tmp_path))[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


# Collectives.


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


# Nobody waits for ever.


class Failing(Toy):
    """Fails on one worker as it is told."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how if Workers().rank == 1 else ""

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "raise" or (
            self.how == "raise in the second pass" and torch.is_grad_enabled()
        ):
            raise KeyError("lost")
        if self.how == "nan in the second pass" and torch.is_grad_enabled():
            return super().forward(images) * torch.nan
        if self.how == "rows":
            return super().forward(images)[1:]
        if self.how == "width":
            return super().forward(images)[:, :4]
        if self.how == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        descriptors = super().forward(images)
        if self.how == "nan":
            descriptors = descriptors.clone()
            descriptors[1, 1] = torch.nan
        if self.how == "random numbers of its own":
            descriptors = F.normalize(descriptors + 0.1 * (1 + torch.is_grad_enabled()), dim=1)
        return descriptors


FAILURES = {
    "raise": (WorkerError, "worker 1 of 2 failed to describe its images of step 7: KeyError"),
    "raise in the second pass": (
        WorkerError,
        "worker 1 of 2 failed in the backward pass of step 7",
    ),
    "memory": (BatchError, "chunk_size 6 does not fit: try 1"),
    "nan": (BatchError, "worker 1 of 2 .*1 descriptors are NaN.* its image 1; lower the learning"),
    "random numbers of its own": (BatchError, "other descriptors than the first"),
    "nan in the second pass": (BatchError, "other descriptors than the first"),
    "rows": (BatchError, "must map 6 images to 6 descriptors"),
    "width": (BatchError, r"differ in width or precision \(widths \[4, 6\]\)"),
    "loss": (WorkerError, "worker 1 of 2 failed to score the batch of step 7: KeyError"),
    "first pass of the loss": (BatchError, "failed to score the batch of step 7: out of memory"),
    "second pass of the loss": (BatchError, "failed to score the batch of step 7: out of memory"),
    "labels": (BatchError, "worker 1 of 2 .*labels must be 14 integers, one per image"),
}


def failing_loss(descriptors: Tensor, labels: Tensor) -> Tensor:
    if Workers().rank == 1:
        raise KeyError("lost")
    return Contrastive()(descriptors, labels)


def short_of_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_one_that_fails(name: str) -> None:
    if name == "loss":
        run_step(Toy(), 6, loss=failing_loss, ignore=None)
    elif name == "labels":
        images, labels, _ = batch()
        rows = own_rows(SIZE, 6, Workers().rank, 2)
        labels = labels[rows][Workers().rank :]
        global_step(
            Toy(), images[rows], labels, StepOptions(loss=Contrastive(), chunk_size=6), step=STEP
        )
    elif name.endswith("pass of the loss"):
        attribute = "first_pass" if name.startswith("first") else "second_pass"
        saved = getattr(gradient, attribute)
        if Workers().rank == 1:
            setattr(gradient, attribute, short_of_memory)
        try:
            run_step(Toy(), 6)
        finally:
            setattr(gradient, attribute, saved)
    else:
        run_step(Failing(name), 6)


def run_failing(names: list[str]) -> list[str]:
    told = []
    for name in names:
        try:
            run_one_that_fails(name)
            told.append("nothing")
        except (WorkerError, BatchError) as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def test_what_fails_on_one_worker_is_raised_on_all() -> None:
    first, second = on_workers(2, run_failing, list(FAILURES))
    assert first == second
    for (kind, text), told in zip(FAILURES.values(), first, strict=True):
        assert told.startswith(kind.__name__)
        assert re.search(text, told), told


def run_odd_batches() -> list[float]:
    """A worker without images; a batch without positives; a worker whose images have none."""
    images, labels, _ = batch()
    rank = Workers().rank
    found = []
    for own, names in (
        (slice(0, 20 * (1 - rank)), labels),
        (slice(13 * rank, 13 * rank + 13), torch.arange(SIZE)),
        (
            slice(13 * rank, 13 * rank + 13),
            torch.where(torch.arange(SIZE) < 13, labels, 100 + torch.arange(SIZE)),
        ),
    ):
        model = Toy()
        result = global_step(
            model,
            images[own],
            names[own],
            StepOptions(loss=AveragePrecisionLoss(), chunk_size=13, seed=SEED),
            step=STEP,
        )
        total = sum(float(g.abs().sum()) for g in gradients(model).values())
        assert total == total  # no NaN
        found += [result.loss, total]
    return found


def test_odd_batches_end_alike_on_all_workers() -> None:
    first, second = on_workers(2, run_odd_batches)
    assert first == pytest.approx(second)
    assert first[2:4] == [0, 0]
    assert min(first[0], first[4]) > 0


class Half(nn.Module):
    """Descriptors in bf16, and batch norm with statistics in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(48, 128).double()
        self.norm = nn.BatchNorm1d(128).double()

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.norm(self.inner(images.flatten(1))), dim=1).bfloat16()


def run_half() -> float:
    images, labels, _ = batch()
    own = slice(0, SIZE * (1 - Workers().rank))  # worker 1 has none
    model = Half().train()
    result = global_step(
        model,
        images[own],
        labels[own],
        StepOptions(loss=AveragePrecisionLoss(), chunk_size=13, seed=0),
        step=0,
    )
    return result.loss + float(model.norm.running_mean.sum())  # type: ignore[union-attr]


def test_a_worker_without_images_follows_the_precision_of_the_others() -> None:
    first, second = on_workers(2, run_half)
    assert first == second


def test_what_nobody_uses_has_no_gradient() -> None:
    model = Toy()
    run_step(model, 6)
    assert model.unused.grad is None
    assert on_workers(2, run_unused) == [True, True]


def run_unused() -> bool:
    model = Toy()
    run_step(model, 26)  # worker 1 has no chunk
    return model.unused.grad is None and model.last.weight.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": "bogus"}, "activations must be one of recompute, store, offload"),
        ({"activations": "auto"}, "choose_activations"),
        ({"loss": lambda d, _: float(d.detach().sum())}, "one finite number as a tensor"),
        ({"loss": lambda d, _: d.sum() * torch.nan}, "one finite number as a tensor"),
        ({"ignore": torch.zeros(3, dtype=torch.int64)}, "ignore must be 26 integers"),
    ],
)
def test_what_a_step_refuses(options: dict[str, Any], message: str) -> None:
    ignored = {} if "loss" not in options else {"ignore": None}
    with pytest.raises(ValueError, match=message):
        run_step(Toy(), 6, **options | ignored)


@pytest.mark.parametrize("chunk_size", [0, -1, 2.5])
def test_a_chunk_has_a_whole_number_of_images(chunk_size: Any) -> None:
    with pytest.raises(ValueError, match="chunk_size must be a whole number of at least 1, got"):
        StepOptions(loss=Contrastive(), chunk_size=chunk_size)


def test_a_model_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter of the model is trainable"):
        run_step(Toy().requires_grad_(False), 6)  # type: ignore[arg-type]


# Other losses, other precision, random state.


def run_contrastive() -> dict[str, Tensor]:
    return run_step(Toy(), 6, loss=Contrastive(), ignore=None).gradients


def test_any_other_loss_plugs_in() -> None:
    model = Toy()
    images, labels, _ = batch()
    parts = []
    for number, chunk in enumerate(images.split(6)):
        with chunks.seeded(chunk_seed(SEED, STEP, number), images.device):
            parts.append(model(chunk))
    Contrastive()(torch.cat(parts), labels).backward()
    for found in on_workers(2, run_contrastive):
        assert error_of(found, gradients(model)) < 1e-10


def test_other_losses_refuse_junk() -> None:
    with pytest.raises(ValueError, match="only the average-precision loss knows ignore"):
        run_step(Toy(), 6, loss=Contrastive())


def test_dropout_differs_between_steps_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    model = Toy()
    torch.manual_seed(5)
    run_step(model, 5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_chunk_of_every_step_of_every_seed_draws_differently() -> None:
    named = [(a, b, c) for a in range(3) for b in range(12) for c in range(12)]
    assert len({chunk_seed(*name) for name in named}) == len(named)


@pytest.mark.parametrize(("batch_size", "chunk_size"), [(23, 5), (23, 23), (24, 4)])
def test_workers_share_whole_chunks_in_order(batch_size: int, chunk_size: int) -> None:
    parts = [own_rows(batch_size, chunk_size, rank, 3) for rank in range(3)]
    assert parts[0].start == 0
    assert parts[-1].stop == batch_size
    for left, right in pairwise(parts):
        assert left.stop == right.start
        assert right.start % chunk_size == 0 or right.start == batch_size


class Unit(nn.Module):
    """Unit vectors in float32, also under autocast."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16)
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.inner(images).float(), dim=1)


def unit_step(net: nn.Module, **options: Any) -> float:
    images = torch.randn(32, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return global_step(
        net,
        images,
        torch.arange(32) % 8,
        StepOptions(loss=AveragePrecisionLoss(), chunk_size=8, **options),
        step=0,
    ).loss


@pytest.mark.parametrize("mode", MODES)
def test_bf16_stays_close_to_float32_and_scores_in_full_precision(mode: str) -> None:
    wide, narrow = Unit(), Unit()
    losses = [unit_step(wide), unit_step(narrow, bf16=True, activations=mode)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert 0 < error_of(gradients(narrow), gradients(wide)) < 0.2


@pytest.mark.parametrize("mode", ["recompute", "store"])
def test_a_compiled_network_gets_the_gradient_of_its_own_dropout(mode: str) -> None:
    plain, compiled = Unit(), Unit()
    compiled.compile(backend="aot_eager")
    assert unit_step(plain) == pytest.approx(unit_step(compiled, activations=mode), abs=1e-6)
    assert error_of(gradients(compiled), gradients(plain)) < 1e-5


def test_weights_do_not_count_as_saved_memory() -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300)).double()
    images = torch.rand(100, 300, dtype=torch.float64)
    # Inputs of both layers; the output of the rectifier is the second one.
    assert saved_bytes(model, images) == 2 * images.nbytes


def test_offloading_moves_activations_but_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_SMALLEST_OFFLOADED_BYTES", 1)
    model, moved = Toy(), set[int]()
    addresses = activations.storages_of(model)
    right = activations._Offloading._pack

    def noting(self: Any, saved: Tensor) -> Any:
        device, packed = right(self, saved)
        address = saved.untyped_storage().data_ptr()
        if packed.untyped_storage().data_ptr() != address:
            moved.add(address)
        else:
            assert address in addresses or saved.numel() == 0
        return device, packed

    monkeypatch.setattr(activations._Offloading, "_pack", noting)
    expected, _, _ = one_graph(Toy(), 6)
    assert error_of(run_step(model, 6, activations="offload").gradients, expected) < 1e-10
    assert moved
    assert not moved & addresses
