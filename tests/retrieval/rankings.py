"""Ranked lists for the tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def published_example() -> tuple[Tensor, Tensor]:
    labels = np.random.RandomState(11).randint(0, 15, 150)
    centres = np.random.RandomState(10).standard_normal((15, 12))
    points = centres[labels] + 1.1 * np.random.RandomState(12).standard_normal((150, 12))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return torch.from_numpy(points), torch.from_numpy(labels)
