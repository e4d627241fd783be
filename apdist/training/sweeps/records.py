"""What is known of a sweep and of each of its trials: kept in its folder, shown on its page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

TrialState: TypeAlias = Literal["waiting", "running", "stopped", "finished", "failed"]
"""How far a trial is. ``stopped``: by the scheduler, or because an earlier rung was enough."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial."""

    number: int
    """In the order in which they were drawn, from 0."""
    name: str
    """Two words that a person can say; its run's folder and its MLflow run have it."""
    setting: int
    """Number of its hyper-parameters; repeats with other seeds share it."""
    repeat: int
    params: dict[str, Any]
    """Dotted name to value, without the seed."""
    seed: int
    state: TrialState
    reason: str = ""
    """Why it was stopped or failed, in a line."""
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Steps at which it was evaluated, and the figures then."""
    seconds: float = 0.0
    test: dict[str, float] = field(default_factory=dict)
    """Figures on the test split, of the best trials alone."""
    chosen: dict[str, float] = field(default_factory=dict)
    """Figures that the saved weights had on held-out classes; of a finished trial."""
    attempts: int = 0
    """How often it was tried and failed."""

    @property
    def figures(self) -> dict[str, float]:
        """By which it is compared: of the saved weights, or what was measured last."""
        return self.chosen or (self.curve[-1][1] if self.curve else {})


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """A sweep."""

    name: str
    preset: str
    objectives: list[str]
    """One or two figures; ``-`` before one that is to be small."""
    space: list[dict[str, Any]]
    """Dimensions: name, kind (choice, uniform, ...), values or low and high, log, and when."""
    searcher: str
    scheduler: str
    trials: list[TrialRecord]
    best: int | None
    """Number of the best setting's first trial."""
    command: str
    """Trains the best setting."""
