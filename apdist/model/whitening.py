"""Whitening: a linear map, learned from descriptors, that evens out their variance.

Shapes: n descriptors or pairs, d descriptor size, k whitened size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.arrays import Array, count_of, descriptors_of, number_of, shape_of, tensor_of
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.model.moments import Moments

_FORMAT = "apdist.whitening"


class TooFewSamplesError(ValueError):
    """``count`` samples vary along ``rank`` of ``dim`` dimensions, of which ``kept`` are wanted."""

    def __init__(self, count: int, rank: int, dim: int, kept: int) -> None:
        super().__init__(
            f"{count} samples vary along {rank} of {dim} dimensions, too few for {kept} whitened "
            f"ones; use more samples or num_components from 1 to {rank}"
        )
        self.rank = rank


@dataclass(frozen=True, kw_only=True, eq=False)
class Whitening:
    """x -> l2((x - mean) projection^T)."""

    mean: Tensor
    """(d,) subtracted first."""
    projection: Tensor
    """(k, d) rows in order of falling variance, already divided by variance^power."""
    learned_on: str = ""
    """The images that it was learned from, by name: figures on these would flatter."""
    images: str = ""
    """`Catalogue.fingerprint` of these images; empty where it is not known."""
    model: str = ""
    """Id of the model that described them; empty where it is not known, as of published ones."""
    size: int = 0
    """Longer side of the images in pixels; 0: as the model is measured."""
    scales: tuple[float, ...] = ()
    """At which they were described; empty where neither size nor scales are known."""
    scale_power: float = 1.0
    """Exponent of the power mean over them."""

    def __post_init__(self) -> None:
        if self.projection.dim() != 2 or self.mean.shape != self.projection.shape[1:]:
            raise ValueError(
                f"expected a projection (k, d) and a mean (d,), "
                f"got {tuple(self.projection.shape)} and {tuple(self.mean.shape)}"
            )

    def __call__(self, descriptors: Array) -> Tensor:
        """Whiten ``descriptors`` (n, d) to (n, k) of unit length, in their dtype."""
        descriptors = descriptors_of("descriptors", descriptors)
        if descriptors.shape[1] != len(self.mean):
            raise ValueError(
                f"whitening was learned on {len(self.mean)} dimensions, "
                f"the descriptors have {descriptors.shape[1]}"
            )
        mean, projection = self.mean.to(descriptors), self.projection.to(descriptors)
        return F.normalize((descriptors - mean) @ projection.T, dim=-1)

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """Weight (k, d) and bias (k,) of the linear layer that whitens, up to the final L2."""
        return self.projection, -self.projection @ self.mean


def learn_pca_whitening(
    descriptors: Array, *, num_components: int = 0, power: float = 0.5
) -> Whitening:
    """PCA whitening of ``descriptors`` (n, d): axes of largest variance, each over variance^power.

    Args:
        descriptors: (n, d).
        num_components: axes to keep; 0 keeps all d.
        power: 0.5 whitens fully, 0.25 is what published AP models use, 0 only rotates.

    Raises:
        ValueError: the descriptors do not vary along as many axes as are kept.
    """
    descriptors = descriptors_of("descriptors", descriptors, least=2)
    num_components = count_of("num_components", num_components, 0, descriptors.shape[1])
    power = number_of("power", power, 0, 1)
    moments = Moments(descriptors.shape[1], descriptors.device)
    moments.add(descriptors)
    return pca_whitening_of(moments, num_components=num_components, power=power)


def pca_whitening_of(moments: Moments, *, num_components: int = 0, power: float = 0.5) -> Whitening:
    """`learn_pca_whitening` of descriptors that came block by block.

    Raises:
        ValueError: they do not vary along as many axes as are kept.
    """
    variance, axes = _principal_axes(moments.covariance())
    kept = num_components or len(moments.mean)
    _check_rank(variance, kept, moments.count)
    return pca_whitening(moments.mean, axes[:kept], variance[:kept], power=power)


def pca_whitening(
    mean: Tensor, components: Tensor, variance: Tensor, *, power: float = 0.5
) -> Whitening:
    """Whitening from a finished PCA: mean (d,), components (k, d), variance (k,)."""
    if not 0 <= power <= 1:
        raise ValueError(f"power must lie in [0, 1], got {power}")
    return Whitening(mean=mean, projection=components / variance.pow(power)[:, None])


def learn_supervised_whitening(
    descriptors: Array, pairs: Array, *, num_components: int = 0
) -> Whitening:
    """Whiten the differences of matching pairs, then rotate to the axes of largest variance.

    Radenovic, Tolias, Chum, 2018, arXiv:1711.02512. C = mean over pairs of (a - b)(a - b)^T is
    made the identity along the axes that it has; PCA of what all descriptors become gives the
    rotation. The mean is that of the pairs' first images.

    Args:
        descriptors: (n, d).
        pairs: (m, 2) rows of ``descriptors`` that show the same instance.
        num_components: axes to keep; 0 keeps all d.

    Raises:
        ValueError: the pairs' differences span fewer dimensions than are kept.
    """
    descriptors = descriptors_of("descriptors", descriptors, least=2)
    num_components = count_of("num_components", num_components, 0, descriptors.shape[1])
    pairs = _checked_pairs(pairs, len(descriptors)).to(descriptors.device)
    moments, firsts, differences = (
        Moments(descriptors.shape[1], descriptors.device) for _ in range(3)
    )
    moments.add(descriptors)
    firsts.add(descriptors[pairs[:, 0]])
    differences.add(descriptors[pairs[:, 0]].double() - descriptors[pairs[:, 1]].double())
    return whitening_of_pairs(moments, firsts, differences, num_components=num_components)


def whitening_of_pairs(
    moments: Moments, firsts: Moments, differences: Moments, *, num_components: int = 0
) -> Whitening:
    """`learn_supervised_whitening` of what came block by block.

    Args:
        moments: of all descriptors.
        firsts: of the first descriptors of all pairs.
        differences: of the first less the second.
        num_components: axes to keep; 0 keeps all d.

    Raises:
        ValueError: the pairs' differences span fewer dimensions than are kept.
    """
    mean = firsts.mean
    spread = differences.covariance(around=torch.zeros_like(mean))
    covariance = moments.covariance(around=mean)
    return _whitened(mean, spread, covariance, num_components, differences.count)


def supervised_whitening_of(moments: Moments, *, num_components: int = 0) -> Whitening:
    """`learn_supervised_whitening` with all pairs in the blocks that ``moments`` took.

    Raises:
        ValueError: the pairs' differences span fewer dimensions than are kept.
    """
    mean, spread = moments.mean_of_pairs, moments.spread
    covariance = moments.covariance(around=mean)
    return _whitened(mean, spread, covariance, num_components, moments.num_pairs)


def _whitened(
    mean: Tensor, spread: Tensor, covariance: Tensor, num_components: int, num_pairs: int
) -> Whitening:
    """Whitening of differences of covariance ``spread`` (d, d), rotated by ``covariance``."""
    variance, axes = _principal_axes(spread)
    kept = num_components or len(mean)
    # Behind a layer norm descriptors lie in a plane, and differ along all axes but one.
    rank = _check_rank(variance, kept, num_pairs)
    whitener = axes[:rank] / variance[:rank].sqrt()[:, None]  # (r, d)
    _, rotation = _principal_axes(whitener @ covariance @ whitener.T)
    return Whitening(mean=mean, projection=(rotation @ whitener)[:kept])


def save_whitening(whitening: Whitening, path: Path | str) -> None:
    """Write ``whitening`` as one safetensors file, whole or not at all; ``path`` may be a URI."""
    from safetensors.torch import save

    tensors = {
        "mean": whitening.mean.contiguous(),
        "projection": whitening.projection.contiguous(),
    }
    about = {"format": _FORMAT, "version": "1"}
    about |= {"learned_on": whitening.learned_on, "images": whitening.images}
    about |= {"model": whitening.model, "size": str(whitening.size)}
    about |= {
        "scales": " ".join(map(repr, whitening.scales)),
        "scale_power": repr(whitening.scale_power),
    }
    storage.write_bytes(str(path), save(tensors, metadata=about))


def load_whitening(path: Path | str) -> Whitening:
    """Read what `save_whitening` wrote; ``ValueError`` when ``path`` holds something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = storage.read_bytes(str(path))
        tensors, about = load(data), _metadata(data)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a whitening: {error}; learn it again"
        ) from error
    if about.get("format") != _FORMAT or set(tensors) != {"mean", "projection"}:
        raise ValueError(
            f"{path} is no whitening (its metadata: {json.dumps(about)}); "
            "expected a file that save_whitening wrote"
        )
    try:
        mean, projection = tensors["mean"], tensors["projection"]
        return Whitening(mean=mean, projection=projection, **_learned_with(about))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); learn it again") from error


def _learned_with(about: dict[str, str]) -> dict[str, Any]:
    """What the metadata say of how it was learned; older files say less."""
    return {
        "learned_on": about.get("learned_on", ""),
        "images": about.get("images", ""),
        "model": about.get("model", ""),
        "size": int(about.get("size", "0")),
        "scales": tuple(map(float, about.get("scales", "").split())),
        "scale_power": float(about.get("scale_power", "1")),
    }


def _metadata(data: bytes) -> dict[str, str]:
    """Of a sound safetensors file, which begins with the length of its JSON."""
    header = read_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def _principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (d,), falling, and unit axes (d, d), one a row, of a covariance (d, d)."""
    variance, axes = torch.linalg.eigh(covariance)
    variance, axes = variance.flip(0), axes.T.flip(0)
    # An axis has no sign of its own: make its largest entry positive on every machine.
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return variance, axes * largest.sign()


def _check_rank(variance: Tensor, kept: int, count: int) -> int:
    """The number of a variance (d,), falling, that are not zero but for rounding; at least kept."""
    rank = int((variance > variance[0].clamp(min=1e-300) * 1e-10).sum())
    if not 0 < kept <= rank:
        raise TooFewSamplesError(count, rank, len(variance), kept)
    return rank


def _checked_pairs(pairs: Array, count: int) -> Tensor:
    """(m, 2) rows of ``count`` descriptors, as int64."""
    found = tensor_of("pairs", pairs)
    if found.dim() != 2 or found.shape[1] != 2 or not len(found):
        raise ValueError(f"expected pairs (m, 2), m >= 1, got {shape_of(found)}")
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"pairs must be rows, whole numbers, got {found.dtype}")
    if found.min() < 0 or found.max() >= count:
        raise ValueError(
            f"pairs name rows {int(found.min())} to {int(found.max())}; "
            f"the descriptors have rows 0 to {count - 1}"
        )
    return found.long()
