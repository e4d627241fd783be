"""One optimiser step, and the loop around it."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.training.step.chunks import own_rows as own_rows
    from apdist.training.step.chunks import sizes_of_workers as sizes_of_workers
    from apdist.training.step.options import StepOptions as StepOptions
    from apdist.training.step.results import StepResult as StepResult
    from apdist.training.step.step import global_step as global_step

_HOMES = {
    **dict.fromkeys(["own_rows", "sizes_of_workers"], "apdist.training.step.chunks"),
    **dict.fromkeys(["StepOptions"], "apdist.training.step.options"),
    **dict.fromkeys(["StepResult"], "apdist.training.step.results"),
    **dict.fromkeys(["global_step"], "apdist.training.step.step"),
}
__all__ = ["StepOptions", "StepResult", "global_step", "own_rows", "sizes_of_workers"]

__getattr__ = lazily(__name__, _HOMES)
