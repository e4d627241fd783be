"""What a person asked of a sweep, as it is kept in its folder and read again by a resume."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from apdist.config import Config, from_json, to_json
from apdist.data import storage
from apdist.training.run_folder.runs import Run, open_run, open_sweep
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.driving import SweepPlan
from apdist.training.sweeps.ranking import read_objective
from apdist.training.sweeps.searchers import Params
from apdist.training.sweeps.space import of_config, parsed_space
from apdist.training.sweeps.state import read_head, write_head
from apdist.training.tracking.surroundings import surroundings
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.start.data_check import used_data
from apdist_verbs.start.start import Start
from apdist_verbs.terminal.console import warn

if TYPE_CHECKING:
    from apdist.training.tracking.mlflow_run import MlflowRun

PAGE = "sweep.html"


@dataclass(frozen=True)
class Begun:
    """A sweep that has a folder."""

    run: Run
    start: Start
    """What its trials start from, before the options on top."""
    space: str
    """The text of the space's file."""
    plan: SweepPlan

    @property
    def config(self) -> Config:
        """The options that all trials share."""
        return self.run.config

    def dimensions(self) -> list[Dimension]:
        """The dimensions of the space."""
        return parsed_space(self.space, self.config, "the space")

    def save(self) -> None:
        """Write what was asked into the sweep's folder, for a resume."""
        head: dict[str, Any] = {
            "name": self.start.name,
            "words": list(self.start.words),
            "config": json.loads(to_json(self.start.config)),
            "space": self.space,
            "searcher": self.plan.searcher,
            "scheduler": self.plan.scheduler,
            "settings": self.plan.settings,
            "repeats": self.plan.repeats,
            "objectives": list(map(str, self.plan.objectives)),
            "starting": list(self.plan.starting),
            "test_best": self.plan.test_best,
            "max_concurrent": self.plan.max_concurrent,
        }
        write_head(self.run.uri, head)

    def limited(self, test_best: int, max_concurrent: int) -> Begun:
        """The same with other limits."""
        plan = replace(self.plan, test_best=test_best, max_concurrent=max_concurrent)
        return replace(self, plan=plan)


def open_begun(uri: str, settings: int) -> Begun:
    """The sweep in a folder; ``settings`` to be tried in all, 0: as many as were asked for.

    Raises:
        ValueError: there is none, or its files are damaged.
    """
    run, head = open_sweep(uri), read_head(uri)
    try:
        config = from_json(json.dumps(head["config"]))
        words = tuple(head["words"])
        start = Start(head["name"], config, words, f"apdist sweep {' '.join(words)}")
        plan = SweepPlan(
            name=run.name,
            searcher=head["searcher"],
            scheduler=head["scheduler"],
            settings=settings or head["settings"],
            repeats=head["repeats"],
            objectives=tuple(read_objective(text, run.config) for text in head["objectives"]),
            starting=tuple(head["starting"]),
            test_best=head["test_best"],
            max_concurrent=head["max_concurrent"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{uri}/sweep.json is damaged ({error}); begin another sweep") from error
    return Begun(run, start, head["space"], plan)


def starting_settings(runs: Sequence[str], dimensions: list[Dimension]) -> tuple[Params, ...]:
    """The settings of earlier runs; one that does not lie in the space is told of.

    Raises:
        ValueError: one is no run.
    """
    found: list[Params] = []
    for name in runs:
        run = open_run(storage.absolute(name))
        try:
            params = of_config(dimensions, run.config)
        except ValueError as unfit:
            warn(f"--warm-start {name}: {unfit}; it is left out")
            continue
        if params not in found:
            found.append(params)
    return tuple(found)


def open_parent(begun: Begun) -> Tracker:
    """The sweep's run in MLflow, new or gone on with."""
    run, config = begun.run, begun.config
    known = str(run.info.get("tracking_run_id", ""))
    run.info.setdefault("tracking_identity", uuid.uuid4().hex)
    if config.tracking.enabled and "datasets" not in run.info:
        run.info["datasets"] = used_data(config)
    run.info.setdefault("surroundings", surroundings())
    run.save_info()
    parent = Tracker(
        config.tracking,
        run.name,
        run_id=known,
        identity=str(run.info["tracking_identity"]),
    )
    if known:
        parent.reopen()
    plan = begun.plan
    space = {
        **{d.name: f"{d.kind} {d.given()}" for d in begun.dimensions()},
        "sweep.searcher": plan.searcher,
        "sweep.scheduler": plan.scheduler,
        "sweep.repeats": plan.repeats,
        "sweep.objective": ",".join(map(str, plan.objectives)),
    }
    tags = {**run.info["surroundings"], "apdist.run": run.uri}
    parent.begin(space, tags, run.info.get("datasets", []))
    run.save_info(tracking_run_id=parent.run_id)
    return parent


def watched_split(begun: Begun) -> str:
    """The split by which trials are compared: held-out classes, where there are any."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import validation_images, validation_name

    data, seed = begun.config.data, begun.config.training.seed
    held_out = validation_images(read_catalogue(data.shards), data, seed)
    return data.eval_split if held_out is None else validation_name(data)


def send_page(begun: Begun, mlflow: MlflowRun) -> None:
    """Put the page beside what MLflow has of the sweep."""
    with TemporaryDirectory() as folder:
        page = Path(folder, PAGE)
        page.write_bytes(storage.read_bytes(storage.join(begun.run.uri, PAGE)))
        mlflow.log_file(page)
