"""Sweeps whose folder is made, for the tests."""

from apdist.config import Config, override
from apdist.training.run_folder.runs import SWEEP, create_run
from apdist.training.sweeps.driving import SweepPlan
from apdist_verbs.start.start import Start
from apdist_verbs.sweeping.begun import Begun


def begun_of(config: Config, space: str, plan: SweepPlan) -> Begun:
    """A sweep of the ``space`` that has begun, named like its ``plan``."""
    config = override(config, {"run.name": plan.name})
    start = Start("glyphs", config, ("glyphs",), "apdist sweep glyphs")
    return Begun(create_run(config, SWEEP + "glyphs"), start, space, plan)
