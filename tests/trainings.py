"""Trainings in this process, by the loop of a worker, and what they left."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from apdist.config import Config, override
from apdist.training.events import Event, Started, StepDone
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.worker import train

CPU = torch.device("cpu")


class StopAfter(Mailbox[Event]):
    """Asks for the end when a step is done; the workers learn of it at the end of the next one."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.last = step

    def post(self, event: Event) -> None:
        super().post(event)
        if isinstance(event, Started | StepDone) and event.step >= self.last:
            self.request_stop()


def trained(
    config: Config, name: str, link: Mailbox[Event] | None = None
) -> tuple[Run, list[Event]]:
    """Run the worker's loop; returns the run and what was posted."""
    run = create_run(override(config, {"run.name": name}), "test")
    return run, gone_on(run, link)


def gone_on(run: Run, link: Mailbox[Event] | None = None) -> list[Event]:
    link = link or Mailbox[Event]()
    train(Job(run.config, run.uri), link, CPU)
    return link.take()


def losses(events: list[Event]) -> list[float]:
    return [event.figures["loss"] for event in of_kind(events, StepDone)]


def of_kind(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(Path(run.uri, "model.safetensors"))
