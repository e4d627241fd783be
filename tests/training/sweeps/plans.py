"""What is asked of a sweep, for the tests."""

import dataclasses
from typing import Any

from apdist.training.sweeps.driving import SweepPlan
from apdist.training.sweeps.ranking import Objective

MAP = Objective("map")
MAP_AND_SIZE = (MAP, Objective("model.dim", -1.0))


def plan_of(settings: int, **changes: Any) -> SweepPlan:
    """A search of a grid, each setting once, all to their end."""
    plan = SweepPlan(
        name="mine",
        searcher="grid",
        scheduler="none",
        settings=settings,
        repeats=1,
        objectives=(MAP,),
    )
    return dataclasses.replace(plan, **changes)
