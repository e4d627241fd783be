"""The global step against one autograd graph over the whole batch, in float64."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.loss.baselines import Contrastive
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.training.run_folder.checkpoint import (
    Marker,
    load_state,
    newest_sound,
    save_checkpoint,
    whole_state,
)
from apdist.training.step import chunks, passes, step
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.randomness import chunk_seed
from apdist.training.step.sharding import shard_parameters
from apdist.training.step.step import global_step
from tests.toy import (
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
from tests.training.step.steps import CASES, MODES
from tests.workers import on_workers


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


def test_without_dropout_chunks_change_nothing() -> None:
    model = Toy(dropout=0.0)
    whole, _, _ = one_graph(model, SIZE)
    assert error_of(run_step(model, 4).gradients, whole) < 1e-10


def no_replay() -> None:
    chunks.seeded = lambda *_: nullcontext()  # type: ignore[attr-defined, assignment]
    passes.check_replay = lambda *_: None  # type: ignore[attr-defined, assignment]


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
    right = Workers.fill_rows

    def own_tables(self: Workers, rows: Tensor, sizes: Any) -> None:
        right(self, rows, sizes)
        if rows.dim() == 3:  # slopes (n, 2, M-1)
            start = sum(sizes[: self.rank])
            rows[:start] = 0
            rows[start + sizes[self.rank] :] = 0

    Workers.fill_rows = own_tables  # type: ignore[method-assign]


def chunks_numbered_by_worker() -> None:
    right = step.numbered_chunks  # type: ignore[attr-defined]
    step.numbered_chunks = lambda i, c, _, **k: right(i, c, 0, **k)  # type: ignore[attr-defined]


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
        (passes, "check_replay"),
        (step, "numbered_chunks"),
        (Workers, "sum_gradients"),
        (Workers, "sum"),
        (Workers, "fill_rows"),
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


def test_a_model_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter of the model is trainable"):
        run_step(Toy().requires_grad_(False), 6)  # type: ignore[arg-type]


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
