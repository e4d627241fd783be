"""Where the time of a run went, from its history, and one sentence of advice."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from apdist.training.events import Evaluated, SetMeasured, Started, StepDone
from apdist.training.run_folder.history import HistoryEvent

_PARTS = {
    "waiting for images": ("waited_s",),
    "network": ("describe_s", "backprop_s"),
    "exchange": ("exchange_s",),
    "loss": ("score_s",),
    "checkpoints": ("stalled_s",),
}
_NAMES = {"device_peak_mib": "GPU", "host_peak_mib": "host"}
# From these shares on, a part is worth a change.
_MUCH = {
    "waiting for images": (
        0.15,
        "the network waits for images: more --data.loader-processes, or shards nearer to it "
        "(--data.cache-dir)",
    ),
    "evaluation": (0.3, "evaluations take much of the time: a larger --evaluation.every-steps"),
    "checkpoints": (0.1, "the loop waits for checkpoints: a larger --checkpoint.every-steps"),
    "exchange": (0.3, "workers wait for each other or the network between them: larger batches"),
    "loss": (0.3, "the loss is much of a step: a smaller --model.dim"),
}
_FASTER_ON_GPU = ", or --loss.precision bf16x3"
_FEWEST = 3
"""Steps that tell what one usually takes."""


@dataclass(frozen=True)
class TimeSpent:
    """Seconds by part of a run, and the most memory of worker 0."""

    seconds: dict[str, float]
    """The largest first."""
    peak_mib: dict[str, float]
    """Peak memory of the GPU, where there is one, and of the host."""

    @property
    def total_s(self) -> float:
        """Seconds of all parts together."""
        return sum(self.seconds.values())

    def share(self, part: str) -> float:
        """Share of ``part`` in the whole time, in [0, 1]."""
        return self.seconds.get(part, 0.0) / self.total_s if self.total_s else 0.0

    def __str__(self) -> str:
        """One line."""
        parts = [f"{part} {self.share(part):.0%}" for part in self.seconds]
        peaks = [f"{name} {mib / 1024:.1f} GiB" for name, mib in self.peak_mib.items()]
        memory = f"; most memory of worker 0: {', '.join(peaks)}" if peaks else ""
        return f"{', '.join(part for part in parts if not part.endswith(' 0%'))}{memory}"

    def advice(self) -> str:
        """What would save most."""
        much = [part for part, (share, _) in _MUCH.items() if self.share(part) >= share]
        if much:
            most = max(much, key=self.share)
            is_on_gpu = _NAMES["device_peak_mib"] in self.peak_mib
            return _MUCH[most][1] + (_FASTER_ON_GPU if most == "loss" and is_on_gpu else "")
        return "most of the time is the network's, as it should be"


def time_spent(history: Sequence[HistoryEvent]) -> TimeSpent:
    """Where the time of the steps and evaluations in ``history`` went."""
    steps = [event.figures for event in history if isinstance(event, StepDone)]
    firsts = _first_steps(history)
    seconds, began = {}, 0.0
    for part, keys in _PARTS.items():
        took = [sum(f.get(key, 0.0) for key in keys) for f in steps]
        more = _more_than_usual(took, firsts)
        seconds[part], began = sum(took) - more, began + more
    if began:
        seconds["the beginning"] = began
    measured = [e for e in history if isinstance(e, Evaluated | SetMeasured)]
    seconds["evaluation"] = sum(event.seconds for event in measured)
    whole = sum(f.get("seconds", 0.0) + f.get("stalled_s", 0.0) for f in steps)
    inside = sum(seconds[part] for part in _PARTS) + began
    seconds["the rest of the steps"] = max(0.0, whole - inside)
    peaks = {name: max((f.get(key, 0.0) for f in steps), default=0) for key, name in _NAMES.items()}
    return TimeSpent(
        dict(sorted(seconds.items(), key=lambda item: -item[1])),
        {name: mib for name, mib in peaks.items() if mib},
    )


def _first_steps(history: Sequence[HistoryEvent]) -> set[int]:
    """Places among the steps of those that workers began with: kernels are compiled in them."""
    found, num_steps, has_begun = set(), 0, False
    for event in history:
        if isinstance(event, Started):
            has_begun = True
        elif isinstance(event, StepDone):
            if has_begun:
                found.add(num_steps)
            num_steps, has_begun = num_steps + 1, False
    return found


def _more_than_usual(took: Sequence[float], firsts: set[int]) -> float:
    """Seconds by which the ``firsts`` took longer than the other steps usually do."""
    others = [seconds for place, seconds in enumerate(took) if place not in firsts]
    if len(others) < _FEWEST:
        return 0.0
    usual = statistics.median(others)
    return sum(max(0.0, took[place] - usual) for place in firsts)
