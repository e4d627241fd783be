"""Where verbs compute that run in this process, and a word where a GPU stays idle."""

import torch

from apdist.config import RayConfig
from apdist_verbs.terminal.console import say


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def say_if_idle(config: RayConfig, option: str) -> None:
    """Name the ``option`` that puts this machine's GPU to work, if the workers leave it idle.

    Of a cluster that is joined nothing is said: it may have other machines than this one.
    """
    if config.use_gpu or config.address != "local" or not torch.cuda.is_available():
        return
    workers = "" if config.num_workers else " --ray.num-workers 1"
    say(f"a GPU of this machine stays idle while the CPU computes; to use it: {option}{workers}")
