"""Whether an image is a copy of another, or of a part of it: normalised correlation of thumbnails.

Both are stretched to squares, so a part of an image is a window of other sides; as pixels are
square, width / height of the window is the ratio of the two shapes: scale and place are looked for.

Shapes: p pairs, s side of thumbnails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from apdist.audit.looks import Looks

COARSE_SIDE = 32
SCALES = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72)
"""Of the longer side of the window: crops that keep half of the area."""
LEAST_AREA = 0.4
"""Of a window; smaller parts of an image are not told from chance at this size."""
PROMISING = 0.8
"""Coarse correlation from which on a pair is looked at closely."""
FLAT = 2.0
"""Deviation of grey values under which there is nothing to correlate."""
STEPS = (1 / 48, 1 / 96, 1 / 192)
MOVES = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)) * 2
"""Right, down and wider, in steps: every window is moved so if it gets better."""
_PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class Match:
    """How well pairs of images (a, b) match."""

    scores: NDArray[np.float32]
    """(p,) correlation at the best window, from -1 to 1; 0 for those that are not promising."""
    colours: NDArray[np.float32]
    """(p,) mean difference of chrominance there, of 255."""
    windows: NDArray[np.float32]
    """(p, 4) centre and sides of the window, as shares of the image that it lies in."""
    is_first_part: NDArray[np.bool_]
    """(p,) whether the window lies in b, and shows what a is."""
    fullness: NDArray[np.float32]
    """(p,) of the emptier of the two: see `_fullness`."""


_NOTHING = Match(
    scores=np.empty(0, np.float32),
    colours=np.empty(0, np.float32),
    windows=np.empty((0, 4), np.float32),
    is_first_part=np.empty(0, bool),
    fullness=np.empty(0, np.float32),
)


def match(
    looks: Looks, pairs: NDArray[np.int64], progress: Callable[[int], None] = lambda _: None
) -> Match:
    """Compare pairs of images.

    Args:
        looks: of all images.
        pairs: (p, 2) rows.
        progress: called with the number of pairs done.
    """
    found = [_NOTHING]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        found.append(_match(looks, pairs[start : start + _PAIRS_AT_ONCE]))
        progress(min(start + _PAIRS_AT_ONCE, len(pairs)))
    return Match(
        *(
            np.concatenate([getattr(part, name) for part in found])
            for name in ("scores", "colours", "windows", "is_first_part", "fullness")
        )
    )


def _match(looks: Looks, pairs: NDArray[np.int64]) -> Match:
    ratios = torch.from_numpy(looks.ratios[pairs])  # (p, 2)
    grey = torch.from_numpy(looks.grey[pairs]).float()  # (p, 2, s, s)
    coarse = avg_pool2d(grey, looks.grey.shape[-1] // COARSE_SIDE)
    first = _coarse(coarse[:, 0], coarse[:, 1], ratios[:, 0] / ratios[:, 1])
    second = _coarse(coarse[:, 1], coarse[:, 0], ratios[:, 1] / ratios[:, 0])
    is_first = first[0] > second[0]
    scores = torch.where(is_first, first[0], second[0])
    windows = torch.where(is_first[:, None], first[1], second[1])
    colours = torch.full_like(scores, 255.0)
    near = torch.nonzero(scores >= PROMISING).flatten()
    scores = torch.where(scores >= PROMISING, scores, 0.0)
    if len(near):
        part, whole = (torch.where(is_first[near], i, 1 - i) for i in (0, 1))
        windows[near], scores[near] = _fine(grey[near, part], grey[near, whole], windows[near])
        chroma = torch.from_numpy(looks.colours[pairs[near.numpy()]]).float()
        count = torch.arange(len(near))
        colours[near] = _colour_difference(chroma[count, part], chroma[count, whole], windows[near])
    fullness = _fullness(coarse).amin(dim=1)
    return Match(*(x.numpy() for x in (scores, colours, windows, is_first, fullness)))


def _fullness(images: Tensor) -> Tensor:
    """Share of the pixels of ``images`` (..., s, s) that make up their contrast, (...).

    0.3 to 0.5 of photographs, 0.1 of line drawings, 0.02 of a stroke on white.
    """
    squares = (images - images.mean(dim=(-2, -1), keepdim=True)).square()
    total, fourth = squares.sum(dim=(-2, -1)), squares.square().sum(dim=(-2, -1))
    return total.square() / fourth.clamp(min=1e-6) / images.shape[-1] ** 2


def _coarse(part: Tensor, whole: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The best correlation (p,) of all of ``part`` (p, s, s) with a window of ``whole``.

    Also the windows (p, 4). ``ratio`` (p,) of their shapes.
    """
    side = part.shape[-1]
    best = torch.full((len(part),), -1.0)
    windows = torch.full((len(part), 4), 0.5)
    windows[:, 2:] = 1.0
    spectrum, sums = torch.fft.rfft2(whole), _integrals(whole)
    for scale in SCALES:
        shares = scale * torch.stack([ratio.clamp(max=1), (1 / ratio).clamp(max=1)], dim=1)
        sides = (shares * side).round().long()  # (p, 2) width and height
        for width, height in torch.unique(sides, dim=0).tolist():
            if width * height < LEAST_AREA * side**2:
                continue
            rows = torch.nonzero((sides == torch.tensor([width, height])).all(dim=1)).flatten()
            scores, left, top = _slide(part[rows], spectrum[rows], sums[:, rows], width, height)
            centres = torch.stack([left + width / 2, top + height / 2], dim=1) / side
            place = torch.cat([centres, shares[rows].float()], dim=1)
            is_better = scores > best[rows]
            windows[rows[is_better]] = place[is_better]
            best[rows[is_better]] = scores[is_better]
    return best, windows


def _integrals(whole: Tensor) -> Tensor:
    """Sums (2, p, s + 1, s + 1) above and left of each place, of centred values and squares."""
    centred = (whole - whole.mean(dim=(1, 2), keepdim=True)).double()
    sums = torch.stack([centred, centred.square()]).cumsum(dim=-1).cumsum(dim=-2)
    return pad(sums, (1, 0, 1, 0))


def _slide(
    part: Tensor, spectrum: Tensor, sums: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best correlation over all places of a window, and its left and top, each (p,)."""
    side, count = part.shape[-1], width * height
    small = interpolate(part[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]
    small = small - small.mean(dim=(1, 2), keepdim=True)
    norm = small.square().sum(dim=(1, 2), keepdim=True).sqrt()
    small = small / norm.clamp(min=FLAT * count**0.5)
    padded = pad(small, (0, side - width, 0, side - height))
    found = torch.fft.irfft2(spectrum * torch.fft.rfft2(padded).conj(), s=(side, side))
    found = found[:, : side - height + 1, : side - width + 1]
    bottom, top = sums[:, :, height:], sums[:, :, : side - height + 1]
    inside = bottom[..., width:] - top[..., width:]
    inside = inside - bottom[..., : side - width + 1] + top[..., : side - width + 1]
    mean, squares = inside / count
    deviation = (squares - mean.square()).clamp(min=FLAT**2).sqrt().float() * count**0.5
    scores, places = (found / deviation).flatten(1).max(dim=1)
    columns = side - width + 1
    return scores, (places % columns).float(), (places // columns).float()


def _fine(part: Tensor, whole: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows (p, 4) moved and scaled for the best correlation, and this (p,)."""
    target = _unit(avg_pool2d(part, part.shape[-1] // COARSE_SIDE))
    best = _correlation(target, whole, windows)
    for step in STEPS:
        for across, down, wider in MOVES:
            moved = windows + step * torch.tensor([across, down, 0.0, 0.0])
            moved[:, 2:] *= 1 + step * wider
            scores = _correlation(target, whole, moved)
            is_better = scores > best
            best = torch.where(is_better, scores, best)
            windows = torch.where(is_better[:, None], moved, windows)
    return windows, best


def _correlation(target: Tensor, whole: Tensor, windows: Tensor) -> Tensor:
    """Of unit ``target`` (p, s, s) with windows of ``whole``, (p,)."""
    seen = _window(whole[:, None], windows, 2 * target.shape[-1])
    return (_unit(avg_pool2d(seen[:, 0], 2)) * target).sum(dim=(1, 2))


def _window(planes: Tensor, windows: Tensor, side: int) -> Tensor:
    """What windows (p, 4) show of ``planes`` (p, c, h, w), at ``side`` x ``side`` points."""
    points = (torch.arange(side) + 0.5) / side - 0.5
    x = windows[:, 0, None] + points * windows[:, 2, None]  # (p, side)
    y = windows[:, 1, None] + points * windows[:, 3, None]
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1) * 2 - 1
    return grid_sample(planes, grid, padding_mode="border", align_corners=False)


def _unit(images: Tensor) -> Tensor:
    """``images`` (p, s, s) without their mean, of length 1, or less where they are flat."""
    centred = images - images.mean(dim=(1, 2), keepdim=True)
    norm = centred.square().sum(dim=(1, 2), keepdim=True).sqrt()
    return centred / norm.clamp(min=FLAT * images.shape[-1])


def _colour_difference(part: Tensor, whole: Tensor, windows: Tensor) -> Tensor:
    """Mean difference (p,) of chrominance (p, 2, s, s)."""
    seen = avg_pool2d(_window(whole, windows, part.shape[-1]), 2)
    return (seen - avg_pool2d(part, 2)).abs().mean(dim=(1, 2, 3))
