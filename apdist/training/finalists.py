"""Trained models of several runs, measured by all workers together on what no run was chosen by.

So the best trials of a sweep are measured, once, whose trainings did not look there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from apdist.config import Config
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.catalogue.selection import (
    evaluation_images,
    validation_images,
    validation_name,
)
from apdist.figures import EVALUATION, logged
from apdist.model.pretrained import load_model
from apdist.retrieval.scores_file import write_scores
from apdist.training.choosing import Choice
from apdist.training.evaluation import evaluate
from apdist.training.events import Evaluated, now_ms
from apdist.training.mailbox import Link
from apdist.training.numerics import numerics
from apdist.training.regrouping import never_preempted
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.keeper import Keeper
from apdist.training.run_folder.runs import Run, evaluation_name, open_run
from apdist.training.sets import EvaluationSets
from apdist.training.step.collectives import Workers


@dataclass(frozen=True)
class Finalists:
    """What every worker gets."""

    config: Config
    """Of the workers."""
    run: str
    """URI of the folder for Ray's own files."""
    models: tuple[tuple[str, Link], ...]
    """URIs of runs that are trained to their end, each with who hears what was found."""
    is_trial: ClassVar = True
    """As a trial's, an exception is the sweep's to answer."""


def measure_finalists(
    job: Finalists,
    link: Link,
    device: torch.device,
    preemption_notice: Callable[[], str] = never_preempted,
) -> None:
    """Measure each model on its run's evaluation split and sets, and tell what was found.

    The figures are those that a training measures with the weights it saves. All workers must call
    it; a notice is not answered, as those that come after begin anew.

    Raises:
        ValueError: a run has no model, or its images are not there.
    """
    del link, preemption_notice
    workers = Workers()
    for uri, listener in job.models:
        run = open_run(uri)
        with numerics(run.config.training):
            _measure(run, listener, workers, device)


def _measure(run: Run, link: Link, workers: Workers, device: torch.device) -> None:
    config, split, step = run.config, run.config.data.eval_split, run.steps_done
    catalogue, seed = read_catalogue(config.data.shards), config.training.seed
    chosen = _choice(run, catalogue).chosen(config, step)
    of_step = -1 if chosen.step == step else chosen.step
    images = evaluation_images(catalogue, config.data, seed)
    model = load_model(run.uri)
    network = model.network.to(device)
    keeper = Keeper(run.uri, None, link, workers, config.checkpoint.keep)
    keeper.history = run.history

    def tell(event: HistoryEvent) -> None:
        link.post(replace(event, time_ms=now_ms()))

    with keeper.during(f"evaluating {split}"):
        began = time.perf_counter()
        for scores in evaluate(network, images, model.fit, config, workers):  # on worker 0 alone
            write_scores(scores, storage.join(run.uri, evaluation_name(split, step)))
            tell(
                Evaluated(
                    step=step,
                    split=split,
                    figures=logged(EVALUATION, scores),
                    seconds=time.perf_counter() - began,
                    of_step=of_step,
                    blend=chosen.blend,
                )
            )
    EvaluationSets(config, keeper, network, model.fit, tell).measure_due(
        step, chosen.blend, of_step, is_end=True
    )


def _choice(run: Run, catalogue: Catalogue) -> Choice:
    """Which weights ``run`` saved."""
    data = run.config.data
    held_out = validation_images(catalogue, data, run.config.training.seed)
    watched = "" if held_out is None else validation_name(data)
    return Choice(watched, run.config.training.patience, run.history)
