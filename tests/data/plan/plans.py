"""Plans for the tests."""

import numpy as np
from numpy.typing import NDArray

from apdist.data.plan.batch_sampler import Plan


def stored_in_runs(sizes: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sizes)), sizes)


def batches_of_epoch(plan: Plan, epoch: int = 0) -> list[NDArray[np.int64]]:
    steps = plan.summary.steps_per_epoch
    return [plan.rows(epoch * steps + position) for position in range(steps)]
