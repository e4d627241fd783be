"""Checks of gpu.py: the roofs of the card, and the loss: right, fast, and in how much memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gpu_figures import Check, Figure, Setting
from torch import Tensor

from apdist.loss.kernels.available import hindrance_of_triton
from apdist.loss.kernels.products import float32_products
from apdist.loss.listwise import AveragePrecisionLoss, average_precision_loss

# A part of the n x n scores that is enough to time a product by.
UNIT_BYTES = 2**32
NOTHING_KEPT: dict[str, Any] = {"cache_mib": 0}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, nothing kept": NOTHING_KEPT,
    "bf16x3": {"precision": "bf16x3"},
    "bf16x3, nothing kept": {"precision": "bf16x3"} | NOTHING_KEPT,
}


def card(setting: Setting) -> Iterator[Figure]:
    """What runs where."""
    found: dict[str, Any] = {"torch": torch.__version__}
    if importlib.util.find_spec("triton"):
        found["triton"] = __import__("triton").__version__
    if not setting.dry:
        properties = torch.cuda.get_device_properties(0)
        found |= {"card": properties.name, "GiB": properties.total_memory >> 30}
        hindrance = hindrance_of_triton(20, torch.float32, torch.device(setting.device))
        found["runs by Triton"] = not hindrance
    yield Figure("card", {}, found)


def roofs(setting: Setting) -> Iterator[Figure]:
    """How fast the card copies and multiplies."""
    yield copy_roof(setting)
    # 1 + 2**-11 + 2**-12 becomes 1 + 2**-10 if TF32 rounds, and 1 if it cuts.
    if not setting.dry:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        factor = torch.full((256, 256), 1 + 2**-11 + 2**-12, device=setting.device)
        product = (factor @ torch.eye(256, device=setting.device))[0, 0]
        torch.backends.cuda.matmul.fp32_precision = "none"
        what = "rounds" if product > 1 else "cuts"
        yield Figure("roofs", {"what": "TF32"}, {"factors": what})
    side = 256 if setting.dry else 8192
    for size in (512, 2048):
        for dtype in (torch.float32, torch.bfloat16):
            yield product_roof(setting, side, size, dtype)


def copy_roof(setting: Setting) -> Figure:
    numbers = torch.empty(2**20 if setting.dry else 2**30, device=setting.device)
    half = len(numbers) // 2
    ms = setting.median_ms(lambda: numbers[:half].copy_(numbers[half:]))
    return Figure("roofs", {"what": "copy"}, {"TB/s": round(numbers.nbytes / ms / 1e9, 2)})


def product_roof(setting: Setting, side: int, size: int, dtype: torch.dtype) -> Figure:
    left = torch.randn(side, size, device=setting.device).to(dtype)
    with float32_products(setting.device):
        ms = setting.median_ms(lambda: left @ left.T, 9, 2)
    case = {"what": "product", "m = n": side, "k": size, "dtype": str(dtype)[6:]}
    return Figure("roofs", case, {"TFLOP/s": round(2e-9 * side * side * size / ms, 1)})


GRADIENT_CASES: list[tuple[int, int, dict[str, Any]]] = [
    (5003, 64, {}),
    (4096, 512, {}),
    (20_000, 512, {}),
    (20_000, 64, {}),
    (3000, 512, {"num_bins": 100}),
    (3000, 64, {"num_bins": 2}),
    (3001, 512, {"include_self": True, "variant": "tie_aware"}),
    (4000, 128, {"variant": "tie_aware_simplified", "junk": True}),
    (2500, 128, {"num_bins": 33, "shuffled": True}),
]
SMALL_GRADIENT_CASES: list[tuple[int, int, dict[str, Any]]] = [
    (150, 16, {}),
    (140, 16, {"variant": "tie_aware", "junk": True}),
    (140, 16, {"num_bins": 33, "shuffled": True}),
]


def gradients(setting: Setting) -> Iterator[Figure]:
    """Relative error of the gradient against plain torch in float64, and whether bits repeat."""
    for num_images, size, case in SMALL_GRADIENT_CASES if setting.dry else GRADIENT_CASES:
        descriptors, labels = setting.batch(num_images, size)
        options = {k: v for k, v in case.items() if k not in ("junk", "shuffled")}
        if "junk" in case:
            options["ignore"] = torch.arange(num_images, device=setting.device) % 97 - 5
        if "shuffled" in case:
            order = torch.randperm(num_images, generator=torch.Generator().manual_seed(1))
            descriptors, labels = (
                descriptors[order.to(setting.device)],
                labels[order.to(setting.device)],
            )
        loss, expected = gradient(descriptors.double(), labels, backend="tiled", **options)
        for name, way in (WAYS | {"tiles of 1,000": NOTHING_KEPT | {"tile_size": 1000}}).items():
            found_loss, found = gradient(descriptors, labels, **options, **way)
            again = gradient(descriptors, labels, **options, **way)[1]
            error = (found.double() - expected).norm() / expected.norm()
            yield Figure(
                "gradients",
                {"n": num_images, "d": size, "options": ", ".join(case) or "default", "way": name},
                {
                    "relative error": f"{error.item():.1e}",
                    "of the loss": f"{abs(found_loss - loss):.0e}",
                    "same bits twice": torch.equal(found, again),
                },
            )


def gradient(descriptors: Tensor, labels: Tensor, **options: Any) -> tuple[float, Tensor]:
    leaf = descriptors.detach().requires_grad_()
    loss = average_precision_loss(leaf, labels, **options)
    loss.backward()
    assert leaf.grad is not None
    return loss.item(), leaf.grad


def loss(setting: Setting) -> Iterator[Figure]:
    """Forward and backward in units of one n x n x d float32 product, and its memory."""
    sizes = [(4096, 512), (4096, 2048), (16_384, 512), (65_536, 512), (65_536, 2048)]
    for num_images, size in [(256, 16)] if setting.dry else [*sizes, (131_072, 512)]:
        descriptors, labels = setting.batch(num_images, size)
        unit = product_ms(setting, descriptors)
        for name, options in WAYS.items():
            step = step_of(AveragePrecisionLoss(**options), descriptors, labels)
            peak = setting.peak_mib(step)
            ms = setting.median_ms(step, 9 if num_images < 10_000 else 3, 3)
            yield Figure(
                "loss",
                {"n": num_images, "d": size, "way": name},
                {"ms": round(ms, 2), "products": round(ms / unit, 2), "peak MiB": peak},
            )


def product_ms(setting: Setting, descriptors: Tensor) -> float:
    """Time of one n x n x d product in float32; of a part of the rows, and multiplied."""
    num_images = len(descriptors)
    num_rows = min(num_images, max(1, UNIT_BYTES // (4 * num_images)))
    scores = descriptors.new_empty(num_rows, num_images)
    with float32_products(setting.device):
        ms = setting.median_ms(lambda: torch.mm(descriptors[:num_rows], descriptors.T, out=scores))
    return ms * num_images / num_rows


def step_of(loss: AveragePrecisionLoss, descriptors: Tensor, labels: Tensor) -> Any:
    leaf = descriptors.detach().requires_grad_()

    def step() -> None:
        leaf.grad = None
        loss(leaf, labels).backward()

    return step


def idle(setting: Setting) -> Iterator[Figure]:
    """How many launches there are, how long the GPU works in one step of the loss, when it waits.

    What is outside of the launches is Python before the first and after the last.
    """
    for num_images in (256,) if setting.dry else (4096, 65_536):
        descriptors, labels = setting.batch(num_images, 16 if setting.dry else 512)
        for name, options in WAYS.items():
            step = step_of(AveragePrecisionLoss(**options), descriptors, labels)
            wall = setting.median_ms(step, 5, 2)
            launches = launches_of(setting, step)
            waits = waits_between(launches)
            spent: dict[str, float] = {}
            for launch in launches:
                spent[launch.name] = spent.get(launch.name, 0) + launch.stop - launch.start
            within = max(launch.stop for launch in launches) - launches[0].start
            yield Figure(
                "idle",
                {"n": num_images, "d": descriptors.shape[1], "way": name},
                {
                    "wall ms": round(wall, 2),
                    "busy ms": round(sum(spent.values()), 2),
                    "waits ms": round(sum(waits.values()), 2),
                    "outside ms": round(wall - within, 2),
                    "launches": len(launches),
                    "most": most_of(spent),
                    "longest waits": most_of(waits),
                },
            )


@dataclass(frozen=True)
class Launch:
    """What a GPU did in one piece, from ``start`` to ``stop`` in milliseconds."""

    name: str
    start: float
    stop: float


def launches_of(setting: Setting, work: Callable[[], object]) -> list[Launch]:
    """Launches of ``work`` in their order; on a CPU, torch's operations stand in for them."""
    from torch.profiler import ProfilerActivity, profile

    kind = "CPU" if setting.dry else "CUDA"
    with profile(activities=[getattr(ProfilerActivity, kind)], acc_events=True) as profiler:
        work()
        setting.finish()
    launches = [
        Launch(
            "_".join(event.name.split("<")[0].split("_")[:2]),
            event.time_range.start / 1e3,
            event.time_range.end / 1e3,
        )
        for event in profiler.events()
        if event.device_type.name == kind
    ]
    return sorted(launches, key=lambda launch: launch.start)


def waits_between(launches: list[Launch]) -> dict[str, float]:
    """Milliseconds without any launch, by those before and after."""
    waits: dict[str, float] = {}
    last = launches[0]
    for launch in launches[1:]:
        if launch.start > last.stop:
            between = f"{last.name} > {launch.name}"
            waits[between] = waits.get(between, 0) + launch.start - last.stop
        last = max(last, launch, key=lambda one: one.stop)
    return waits


def most_of(spent: dict[str, float]) -> str:
    """The largest six."""
    most = sorted(spent.items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{key} {ms:.2f}" for key, ms in most)


def peer(setting: Setting) -> Iterator[Figure]:
    """Inf-CLIP's contrastive loss beside ours, where its package inf_cl is installed."""
    if setting.dry or not importlib.util.find_spec("inf_cl"):
        return
    from inf_cl.flash import cal_flash_loss

    for num_images, size in ((32_768, 512), (65_536, 512)):
        queries, labels = setting.batch(num_images, size, seed=1)
        keys = setting.batch(num_images, size, seed=2)[0].requires_grad_()
        leaf = queries.detach().requires_grad_()

        def theirs(leaf: Tensor = leaf, keys: Tensor = keys) -> None:
            leaf.grad = keys.grad = None
            cal_flash_loss(leaf, keys, scale=50.0).mean().backward()

        unit = product_ms(setting, queries)
        ways = {"inf_cl": theirs} | {
            f"apdist, {name}": step_of(AveragePrecisionLoss(**options), queries, labels)
            for name, options in WAYS.items()
        }
        for name, step in ways.items():
            step()
            peak, ms = setting.peak_mib(step), setting.median_ms(step, 3, 0)
            yield Figure(
                "peer",
                {"n": num_images, "d": size, "loss": name},
                {"ms": round(ms, 1), "products": round(ms / unit, 2), "peak MiB": peak},
            )


def large(setting: Setting) -> Iterator[Figure]:
    """A million images, forward and backward, once."""
    num_images = 512 if setting.dry else 2**20
    descriptors, labels = setting.batch(num_images, 16 if setting.dry else 512)
    for name in ("bf16x3", "float32"):
        step = step_of(AveragePrecisionLoss(**WAYS[name]), descriptors, labels)
        started = setting.median_ms(lambda: None, 1)
        peak: list[int] = []

        def once(step: Any = step, peak: list[int] = peak) -> None:
            peak.append(setting.peak_mib(step))

        ms = setting.median_ms(once, 1, 0) - started
        case = {"n": num_images, "d": descriptors.shape[1], "way": name}
        yield Figure("large", case, {"s": round(ms / 1e3, 2), "peak MiB": peak[-1]})


CHECKS = [
    Check("card", 5, card),
    Check("roofs", 10, roofs),
    Check("gradients", 60, gradients),
    Check("loss", 60, loss),
    Check("idle", 20, idle),
    Check("peer", 30, peer),
    Check("large", 130, large),
]
