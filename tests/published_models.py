"""Files as published code writes them, with weights and images by formula."""

import functools
import io
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apdist.model.backbones import build_backbone
from apdist.model.published.pickles import StoredPCA, StoredTensor

PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
"""The published figures are of images that are normalised already."""
CIRTORCH = {"conv1": "features.0", "bn1": "features.1"} | {
    f"layer{stage}": f"features.{stage + 3}" for stage in (1, 2, 3, 4)
}


def by_formula(shapes: dict[str, torch.Size], *, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of the published figures: of each name the sine of its place among the sorted."""
    return dict(_by_formula(tuple(shapes.items()), dtype))


@functools.lru_cache(maxsize=2)
def _by_formula(named: tuple[tuple[str, torch.Size], ...], dtype: torch.dtype) -> dict[str, Tensor]:
    found, shapes = {}, dict(named)
    names = sorted(name for name in shapes if not name.endswith("num_batches_tracked"))
    for i, name in enumerate(names):
        shape = shapes[name]
        k = torch.arange(shape.numel(), dtype=torch.float64)
        w = torch.sin(1.7 * (k % 9973) + 0.31 * (k // 9973) + 0.7 * i).view(shape)
        if len(shape) > 1:
            w = w * (4 / (shape.numel() / shape[0])) ** 0.5
        elif name.endswith("running_var"):
            w = 1 + 0.2 * w
        elif name.endswith("weight"):
            w = 1 + 0.1 * w
        elif name.endswith(".p"):
            w = 2.7 + (0.2 * w if len(w) > 1 else 0 * w)
        else:
            w = 0.1 * w
        found[name] = w.to(dtype)
    counts = {name: torch.tensor(7) for name in shapes if name.endswith("num_batches_tracked")}
    return found | counts


def images() -> Tensor:
    """Two images (2, 3, 64, 80), normalised already."""
    i, c, y, x = (
        part.double() for part in torch.meshgrid(*map(torch.arange, (2, 3, 64, 80)), indexing="ij")
    )
    return torch.sin(0.11 * y * (1 + 0.3 * i) + 0.23 * x + c) + 0.3 * torch.cos(
        0.05 * x * y / (1 + i)
    )


def backbone_shapes(backbone: str) -> dict[str, torch.Size]:
    """Of the parameters by torchvision's names, without the classifier."""
    with torch.device("meta"):
        network, _ = build_backbone(backbone)
    return {name: value.shape for name, value in network.state_dict().items()}


def dirtorch_content(
    options: dict[str, Any],
    *,
    num_exponents: int = 1,
    out_dim: int = 2048,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> dict[str, Any]:
    """A checkpoint of dirtorch with ``options``; fc is there even where it is passed by."""
    backbone = str(options.get("arch", "resnet18_rmac")).removesuffix("_rmac")
    shapes = backbone_shapes(backbone)
    width = shapes["layer4.0.bn1.weight"][0] * (1 if backbone == "resnet18" else 4)
    shapes |= {"fc.weight": torch.Size((out_dim, width)), "fc.bias": torch.Size((out_dim,))}
    if options.get("pooling", "gem").startswith("gem"):
        shapes["adpool.p"] = torch.Size((num_exponents,))
    return {
        "epoch": 3,
        "iter": 40,
        "model_options": options,
        "preprocess": PLAIN | {"input_size": 224},
        "state_dict": OrderedDict(by_formula(shapes, dtype=dtype)),
    } | more


def cirtorch_content(
    meta: dict[str, Any], *, num_exponents: int = 1, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """A checkpoint of cirtorch with ``meta``."""
    width = 512
    square = {"weight": torch.Size((width, width)), "bias": torch.Size((width,))}
    shapes = {}
    for name, shape in backbone_shapes("resnet18").items():
        first, _, rest = name.partition(".")
        shapes[f"{CIRTORCH[first]}.{rest}"] = shape
    regional = meta.get("regional", False)
    layers = {"lwhiten": "local_whitening", "whiten": "whitening", "pool.whiten": "regional"}
    for layer, option in layers.items():
        if meta.get(option):
            shapes |= {f"{layer}.{part}": shape for part, shape in square.items()}
    if meta["pooling"].startswith("gem"):
        shapes["pool.rpool.p" if regional else "pool.p"] = torch.Size((num_exponents,))
    return {"epoch": 9, "meta": meta | PLAIN, "state_dict": by_formula(shapes, dtype=dtype)}


class PCA:
    """Stands for scikit-learn's, under the name that it had before 0.22."""

    def __init__(self, mean: Any, components: Any, variance: Any, *, whiten: bool = True) -> None:
        self.mean_, self.components_, self.explained_variance_ = mean, components, variance
        self.whiten, self.n_components, self.svd_solver = whiten, None, "full"
        self.noise_variance_ = np.float64(0.5)


def a_pca(dim: int, kept: int, dtype: Any = np.float32, **options: Any) -> PCA:
    """A PCA of ``dim`` numbers."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.standard_normal((dim, kept)))[0].T
    variance = np.linspace(2, 0.1, kept)
    parts = (random.standard_normal(dim), axes, variance)
    return PCA(*(part.astype(dtype) for part in parts), **options)


@contextmanager
def sklearn_named(module: str = "sklearn.decomposition.pca") -> Iterator[None]:
    """While it lasts, pickles name `PCA` as scikit-learn's."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    before = {name: sys.modules.get(name) for name in names}
    own = PCA.__module__
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[module].PCA = PCA  # type: ignore[attr-defined]
    PCA.__module__ = module
    try:
        yield
    finally:
        PCA.__module__ = own
        for name, there in before.items():
            if there is None:
                del sys.modules[name]
            else:
                sys.modules[name] = there


def saved(content: Any, *, zipped: bool = True, module: str = "sklearn.decomposition.pca") -> bytes:
    """The bytes of `torch.save`, in the newer or the older format."""
    file = io.BytesIO()
    with sklearn_named(module):
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def resnet_state(backbone: str = "resnet18") -> dict[str, Tensor]:
    """What torchvision offers: a state dict with a classifier of 1000 classes."""
    shapes = backbone_shapes(backbone)
    width = 512 if backbone == "resnet18" else 2048
    shapes |= {"fc.weight": torch.Size((1000, width)), "fc.bias": torch.Size((1000,))}
    return by_formula(shapes, dtype=torch.float32)


def stored(content: Any) -> Any:
    """``content`` as it is after reading, without a file between."""
    if isinstance(content, dict):
        return {key: stored(value) for key, value in content.items()}
    if isinstance(content, PCA):
        pca = StoredPCA()
        pca.attributes = stored(vars(content))
        return pca
    if isinstance(content, np.ndarray):
        content = torch.from_numpy(content)
    if isinstance(content, Tensor):
        return StoredTensor(Memory(content), 0, tuple(content.shape), content.stride())
    return content


@dataclass
class Memory:
    """A storage that lies in no file."""

    tensor: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.tensor.dtype

    def numbers(self) -> Tensor:
        """All of them (n,)."""
        return self.tensor.as_strided((self.tensor.numel(),), (1,))
