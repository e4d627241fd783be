"""Checks of gpu.py: whatever else of apdist works on a GPU, against the same on a CPU."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_figures import Check, Figure, Setting
from gpu_loss import product_ms
from torch import Tensor, nn

from apdist.config import TrainingConfig
from apdist.data.loading.feed import on_device
from apdist.retrieval.expansion import expand_queries
from apdist.retrieval.metrics import score_labelled
from apdist.training.learning.optimizers import build_optimizer, move
from apdist.training.learning.parameter_groups import ParameterGroup

ROOT = Path(__file__).resolve().parent.parent


def feed(setting: Setting) -> Iterator[Figure]:
    """Parts of a batch on their way while those before are multiplied: none is overwritten."""
    side, num_images = (16, 8) if setting.dry else (224, 128)
    generator = torch.Generator().manual_seed(0)
    shape = (num_images, 3, side, side)
    parts = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(8)]
    factor = torch.randn(64 if setting.dry else 8192, 64 if setting.dry else 8192)
    factor = factor.to(setting.device)
    sums: list[Tensor] = []

    def given() -> Generator[tuple[int, Tensor], None, None]:
        yield from enumerate(parts)

    def work(*, multiply: bool) -> None:
        sums.clear()
        for _, images in on_device(given(), setting.device):
            if multiply:
                torch.mm(factor, factor)
            sums.append(images.sum(dtype=torch.int64))

    copied = setting.median_ms(lambda: work(multiply=False))
    multiplied = setting.median_ms(lambda: [torch.mm(factor, factor) for _ in parts])
    both = setting.median_ms(lambda: work(multiply=True))
    right = [int(total) for total in sums] == [int(part.sum()) for part in parts]
    yield Figure(
        "feed",
        {"parts": len(parts), "MiB each": parts[0].nbytes >> 20},
        {
            "copies ms": round(copied, 1),
            "products ms": round(multiplied, 1),
            "both ms": round(both, 1),
            "as on the host": right,
        },
    )


def optimizers(setting: Setting) -> Iterator[Figure]:
    """The optimiser's step without torch's wrapping, against torch's own: weights and time."""
    for kind in ("adamw", "adam", "sgd"):
        ways: dict[str, Callable[[torch.optim.Optimizer], object]] = {
            "move": move,
            "step": lambda optimizer: optimizer.step(),
        }
        weights, spent = {}, {}
        for name, way in ways.items():
            torch.manual_seed(0)
            network = nn.Sequential(*(nn.Linear(64, 64) for _ in range(50))).to(setting.device)
            group = ParameterGroup(tuple(network.parameters()), weight_decay=1e-4)
            optimizer = build_optimizer([group], TrainingConfig(optimizer=kind, learning_rate=1e-2))
            network(torch.ones(8, 64, device=setting.device)).square().sum().backward()
            spent[name] = setting.median_ms(functools.partial(way, optimizer), 9, 2)
            weights[name] = nn.utils.parameters_to_vector(network.parameters())
        yield Figure(
            "optimizers",
            {"optimizer": kind},
            {
                "same bits": torch.equal(*weights.values()),
                **{f"{name} ms": round(ms, 3) for name, ms in spent.items()},
            },
        )


def ranking(setting: Setting) -> Iterator[Figure]:
    """Exact figures of labelled descriptors, each against all, here and on a CPU."""
    num_images, size = (600, 16) if setting.dry else (20_000, 512)
    descriptors, labels = setting.batch(num_images, size, per_class=10)
    found = score_labelled(descriptors, labels)
    ms = setting.median_ms(lambda: score_labelled(descriptors, labels), 3)
    start = time.perf_counter()
    expected = score_labelled(descriptors.cpu(), labels.cpu())
    cpu_s = time.perf_counter() - start
    yield Figure(
        "ranking",
        {"n": num_images, "d": size, "what": "score_labelled"},
        {
            "ms": round(ms, 1),
            "products": round(ms / product_ms(setting, descriptors), 1),
            "CPU s": round(cpu_s, 2),
            "mAP": round(found.mean_average_precision, 6),
            "difference": f"{found.mean_average_precision - expected.mean_average_precision:.0e}",
            "same recalls": found.recall_at == expected.recall_at,
        },
    )
    queries, rest = descriptors[: num_images // 10], descriptors[num_images // 10 :]

    def expanded(queries: Tensor, rest: Tensor) -> Tensor:
        return expand_queries(queries, rest, k=10, alpha=3.0)

    error = (expanded(queries, rest).cpu() - expanded(queries.cpu(), rest.cpu())).abs().max()
    yield Figure(
        "ranking",
        {"n": len(rest), "d": size, "what": "expand_queries"},
        {"ms": round(setting.median_ms(lambda: expanded(queries, rest), 3), 1)}
        | {"largest difference": f"{error:.0e}"},
    )


def search(setting: Setting) -> Iterator[Figure]:
    """Indexes of faiss, on a GPU where faiss has one, against exact search on the CPU."""
    if not (importlib.util.find_spec("faiss") and importlib.util.find_spec("pyarrow")):
        return
    import pyarrow as pa

    from apdist.retrieval.approximate.importing import has_gpu
    from apdist.retrieval.index import build_index

    num_images, size = (2_000, 16) if setting.dry else (200_000, 256)
    images = setting.batch(num_images, size, per_class=50)[0].cpu()
    queries = setting.batch(num_images // 10, size, per_class=50, seed=1)[0].cpu()
    entries = pa.table({"key": pa.array(range(num_images))})
    exact = build_index(images, entries, kind="exact", model_id="benchmark")
    nearest = exact.search(queries, 10)[0]
    for kind in ("exact", "flat", "ivf", "ivf_pq"):
        start = time.perf_counter()
        index = build_index(images, entries, kind=kind, model_id="benchmark")
        built = time.perf_counter() - start
        ms = setting.median_ms(functools.partial(index.search, queries, 10), 3)
        recall = (index.search(queries, 10)[0] >= nearest[:, -1:]).double().mean()
        yield Figure(
            "search",
            {"n": num_images, "d": size, "queries": len(queries), "kind": kind},
            {
                "faiss has a GPU": has_gpu(),
                "built s": round(built, 1),
                "ms": round(ms, 1),
                "recall@10": round(float(recall), 4),
            },
        )


def training(setting: Setting) -> Iterator[Figure]:
    """The demo's training on Ray: its workers are chosen, and have a GPU each."""
    if not importlib.util.find_spec("ray"):
        return
    with tempfile.TemporaryDirectory() as folder:
        shards = f"{folder}/glyphs"
        verb("prepare", "glyphs", "--out", shards, folder=folder)
        options = ["--data.shards", shards, "--run.output", f"{folder}/runs"]
        if setting.dry:
            options += ["--training.steps", "3", "--training.batch-size", "64"]
        said = verb("train", "glyphs", *options, folder=folder)
        (run,) = Path(folder, "runs").iterdir()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = sorted(line["images_per_s"] for line in lines if line["kind"] == "step")
    maps = [line["map"] for line in lines if line["kind"] == "evaluation" and line["step"] > 0]
    workers = [line.strip() for line in said.splitlines() if "workers:" in line]
    yield Figure(
        "training",
        {"preset": "glyphs"},
        {
            "workers": ", ".join(workers),
            "steps": len(steps),
            "images/s": round(steps[len(steps) // 2]),
            "last mAP": round(maps[-1], 4) if maps else "",
        },
    )


def verb(*arguments: str, folder: str) -> str:
    """What ``apdist`` says in ``folder``.

    Raises:
        RuntimeError: it fails; the last of what it said.
    """
    paths = [str(ROOT), str(ROOT / "pipelines"), *os.environ.get("PYTHONPATH", "").split(":")]
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": ":".join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-m", "apdist_verbs", *arguments],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError((done.stdout + done.stderr)[-250:])
    return done.stdout + done.stderr


CHECKS = [
    Check("feed", 10, feed),
    Check("optimizers", 5, optimizers),
    Check("ranking", 20, ranking),
    Check("search", 60, search),
    Check("training", 90, training),
]
