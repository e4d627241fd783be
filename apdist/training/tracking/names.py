"""What figures are called in MLflow: its pages draw those with one beginning in one section."""

from collections.abc import Mapping

from apdist.training.events import Evaluated, MachineSampled, SetMeasured, StepDone

SPEED = frozenset(
    {
        *("seconds", "images_per_s", "describe_s", "score_s", "backprop_s", "exchange_s"),
        *("stalled_s", "device_peak_mib", "host_peak_mib", "megabytes_received"),
    }
)
"""Figures of a step: what it took."""
READING = frozenset(
    {
        *("waited_s", "replaced_images", "read_mb_per_s", "read_s", "decode_s", "read_retries"),
        *("steps_ready", "cache_hits", "cache_misses"),
    }
)
"""Likewise, what its images took."""


def of_step(event: StepDone) -> dict[str, float]:
    """``train/`` what is learned, ``speed/`` what it took, ``reading/`` how images came."""
    return {f"{_section(key)}/{key}": value for key, value in event.figures.items()}


def of_evaluation(event: Evaluated, eval_split: str) -> dict[str, float]:
    """``eval/`` of the evaluation split, ``validation/`` of what weights are chosen by."""
    section = "eval" if event.split == eval_split else "validation"
    return _under(section, event.figures | {"seconds": event.seconds, "step": event.step})


def of_set(event: SetMeasured) -> dict[str, float]:
    """``set/NAME/``, with the part of its protocol where it has parts."""
    return _under(f"set/{event.name}", event.figures | {"seconds": event.seconds})


def of_machine(event: MachineSampled, is_one_of_many: bool) -> dict[str, float]:
    """``system/``, which has a page of its own; with the host where there are several."""
    return _under(f"system/{event.host}" if is_one_of_many else "system", event.figures)


def _section(key: str) -> str:
    return "speed" if key in SPEED else "reading" if key in READING else "train"


def _under(section: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{section}/{key}": value for key, value in figures.items()}
