"""Where verbs compute that run in this process, and a word where a GPU stays idle."""

import torch

from apdist.config import RayConfig
from apdist_verbs.terminal.console import counted, say


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def say_if_idle(config: RayConfig, command: str) -> None:
    """Tell that this machine has GPUs, too few for the workers, and the option that uses them.

    Of a cluster that is joined nothing is said here: it may have other machines than this one.

    Args:
        config: of the workers.
        command: the verb and the option that is the number of its workers.
    """
    there = torch.cuda.device_count() if config.address == "local" else 0
    if config.use_gpu == "auto" and 0 < there < config.least_workers:
        gpus = counted(there, "GPU stays", "GPUs stay")
        say(
            f"{gpus} idle while the CPU computes with {config.num_workers} workers; "
            f"to compute there: {command} {there}"
        )
