"""A plane on which images that are described alike lie close: exact t-SNE, the same every time.

van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008. Time and memory are O(n^2).
In NumPy: threads of torch that meet after each of thousands of short products take twenty times as
long on cores that others use as well.

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating]
PERPLEXITY = 30.0
LEAST_IMAGES = 8
"""With fewer, neighbours say nothing: the plane is that of PCA."""
_STEPS, _EXAGGERATED_STEPS, _EXAGGERATION = 400, 120, 12.0
_BISECTIONS = 40


def lay_out(descriptors: Array) -> Array:
    """(n, 2) places of descriptors (n, d), by t-SNE that starts from `principal_plane`."""
    start = principal_plane(descriptors)
    if len(descriptors) < LEAST_IMAGES:
        return start
    small = 1e-4 * start / max(float(start[:, 0].std()), 1e-12)
    return _descend(_affinities(descriptors), small.astype(np.float32))


def principal_plane(descriptors: Array) -> Array:
    """(n, 2) coordinates of descriptors (n, d) along their two axes of most variance."""
    centred = descriptors.astype(np.float64)
    centred -= centred.mean(axis=0)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    found = (left * strengths)[:, :2]
    # The sign of an axis is arbitrary: the image that is farthest out lies on the positive side.
    far = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
    plane = np.zeros((len(centred), 2))
    plane[:, : found.shape[1]] = found * np.sign(far)
    return plane


def _affinities(descriptors: Array) -> Array:
    """(n, n) float32: how likely two images are neighbours, equation 1 of the paper; sums to 1."""
    n = len(descriptors)
    distances = _square_distances(descriptors.astype(np.float64)).astype(np.float32)
    distances -= np.where(np.eye(n, dtype=bool), np.inf, distances).min(axis=1)[:, None]
    np.fill_diagonal(distances, np.inf)  # nothing is its own neighbour
    target = math.log(min(PERPLEXITY, (n - 1) / 3))
    low, high = np.full((n, 1), 1e-6), np.full((n, 1), 1e9)
    others = distances[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    for _ in range(_BISECTIONS):
        precision = np.sqrt(low * high)
        likely = np.exp(-others * precision.astype(np.float32))
        sums = likely.sum(axis=1, keepdims=True)
        means = (likely * others).sum(axis=1, keepdims=True) / sums
        is_wide = np.log(sums) + precision * means > target  # the entropy
        low, high = np.where(is_wide, precision, low), np.where(is_wide, high, precision)
    likely = np.exp(-distances * precision.astype(np.float32))
    likely /= likely.sum(axis=1, keepdims=True)
    both: Array = (likely + likely.T) / (2 * n)
    return both


def _descend(affinities: Array, places: Array) -> Array:
    """Gradient descent with momentum and gains, as the authors' code."""
    rate = max(len(places) / _EXAGGERATION / 4, 50.0)
    step, gains = np.zeros_like(places), np.ones_like(places)
    wanted = affinities * np.float32(_EXAGGERATION)
    for count in range(_STEPS):
        if count == _EXAGGERATED_STEPS:
            wanted = affinities
        gradient = _gradient(wanted, places)
        turns = np.sign(gradient) == np.sign(step)
        gains = np.maximum(np.where(turns, gains * 0.8, gains + 0.2), 0.01)
        momentum = 0.5 if count < _EXAGGERATED_STEPS else 0.8
        step = momentum * step - rate * gains * gradient
        places = places + step
        places -= places.mean(axis=0)
    return places


def _gradient(affinities: Array, places: Array) -> Array:
    """(n, 2) 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2), equation 5."""
    x, y = places.T
    near, other = np.subtract.outer(x, x), np.subtract.outer(y, y)
    near *= near
    other *= other
    near += other
    near += 1
    np.reciprocal(near, out=near)
    np.fill_diagonal(near, 0)
    pull = np.multiply(near, -1 / near.sum(), out=other)
    pull += affinities
    pull *= near
    # Not as a product of matrices: see the threads above.
    along = np.einsum("ij,j->i", pull, x), np.einsum("ij,j->i", pull, y)
    gradient: Array = 4 * (pull.sum(axis=1)[:, None] * places - np.stack(along, axis=1))
    return gradient


def _square_distances(points: Array) -> Array:
    """(n, n) of points (n, k)."""
    squares = np.square(points).sum(axis=1)
    distances: Array = squares[:, None] + squares - 2 * (points @ points.T)
    return distances.clip(min=0)
