"""``apdist runs [FOLDER]``: the runs in a folder: state, step, mAP, age, and what to do next."""

import json
import math
import shlex
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

from apdist.addresses import without_secrets
from apdist.data import storage
from apdist.training.events import Ended, Evaluated
from apdist.training.run_folder.lease import holder_of
from apdist.training.run_folder.runs import CONFIG_NAME, Run, open_run
from apdist.training.sweeps.state import read_head, read_state
from apdist_verbs.terminal.console import said_beside_output, say, table
from apdist_verbs.terminal.ending import told
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

State = Literal[
    "training", "searching", "stopped", "finished", "converted", "damaged", "unreadable"
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """List runs: state, step, mAP, age, and what to do next."""

    folder: Annotated[str, positional("FOLDER")] = "runs"
    """Folder or s3:// prefix that holds runs, or a sweep with its trials."""
    json: bool = False
    """Print them as JSON."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A run, or a sweep with its trials in place of steps."""

    uri: str
    state: State
    kind: Literal["run", "sweep"] = "run"
    done: int | None = None
    total: int | None = None
    map: float | None = None
    split: str = ""
    """Of ``map``."""
    is_reported: bool = True
    """Whether that split is the one whose figures count."""
    time_ms: int | None = None
    """Of the last event, since 1970."""
    hint: str = ""
    """What is wrong, or what to do next."""

    @property
    def name(self) -> str:
        """Name of the folder, which is the run's."""
        return self.uri.rsplit("/", 1)[-1]

    def cells(self) -> list[str]:
        """For a person."""
        if self.total is None:
            return [self.name, self.state, "", "", ""]
        done = f"{self.done}/{self.total}"
        if self.kind == "sweep":
            return [self.name, f"sweep, {self.state}", f"{done} trials", "", ""]
        score = "-" if self.map is None else f"{self.map:.4f}"
        return [
            self.name,
            self.state,
            done,
            score if self.is_reported else f"{score} {self.split}",
            "-" if self.time_ms is None else age_of(time.time() - self.time_ms / 1000),
        ]

    def facts(self) -> dict[str, object]:
        """For a program; null is not known."""
        return {
            "uri": self.uri,
            "kind": self.kind,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "unit": "steps" if self.kind == "run" else "trials",
            "map": self.map if self.map is not None and math.isfinite(self.map) else None,
            "split": self.split or None,
            "last_event_ms": self.time_ms,
            "hint": without_secrets(self.hint) or None,
        }


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist runs")
    folder = storage.absolute(options.folder)
    with said_beside_output() if options.json else nullcontext():
        uris = [storage.join(folder, name) for name in storage.list_folders(folder)]
        with phase("reading the runs"):
            runs = [run for uri in uris if (run := readable(uri)) is not None]
        if not runs:
            raise ValueError(f"no runs in {folder}; give the folder that --run.output named")
    if options.json:
        facts = [run.facts() for run in runs]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        show(folder, runs)
    return 0


def show(folder: str, runs: list[Listed]) -> None:
    """Print them as a table, and what to do next."""
    columns = ["run", "state", "step", "mAP", "age"]
    table(f"runs in {folder}", columns, [run.cells() for run in runs])
    for run in runs:
        if run.hint:
            say(run.hint)
    done = [r for r in runs if r.kind == "run" and r.state in ("finished", "converted")]
    if done:
        last = max(done, key=lambda run: run.time_ms or 0)
        say_next("measure the last finished one", "evaluate", "--run", near(last.uri))


def readable(uri: str) -> Listed | None:
    """`listed`, also of a folder that nobody may look into; none where there is no run."""
    try:
        return listed(uri) if storage.exists(storage.join(uri, CONFIG_NAME)) else None
    except OSError as error:  # as of another person's run
        return Listed(uri=uri, state="unreadable", hint=told(error))


def listed(uri: str) -> Listed:
    """What there is to say of a run, or of a sweep."""
    try:
        run = open_run(uri)
    except ValueError as error:
        if " is a sweep;" in str(error):
            return listed_sweep(uri)
        return Listed(uri=uri, state="damaged", hint=str(error))
    state, hint = state_of(run)
    value, split = score_of(run)
    return Listed(
        uri=uri,
        state=state,
        done=run.steps_done,
        total=run.config.training.steps,
        map=value,
        split=split,
        is_reported=split in ("", run.config.data.eval_split),
        time_ms=run.history[-1].time_ms if run.history else None,
        hint=hint,
    )


def listed_sweep(uri: str) -> Listed:
    """The same of a sweep."""
    quoted = shlex.quote(uri)
    try:
        head, records = read_head(uri), read_state(uri).records
        total = int(head["settings"]) * int(head["repeats"])
    except (ValueError, KeyError, TypeError) as error:
        return Listed(uri=uri, kind="sweep", state="damaged", hint=str(error))
    done = sum(record.state not in ("waiting", "running") for record in records)
    name = uri.rsplit("/", 1)[-1]
    hint = f"{name}: its trials: apdist runs {quoted}"
    state: State = "stopped"
    if holder_of(uri) is not None:
        state = "searching"
    elif done >= total:
        state = "finished"
    else:
        hint = f"{hint}; go on: apdist sweep --resume {quoted}"
    return Listed(uri=uri, kind="sweep", state=state, done=done, total=total, hint=hint)


def score_of(run: Run) -> tuple[float | None, str]:
    """MAP of the evaluation split at the end, and its name; before it, of what came last."""
    scores, split = run.of_kind(Evaluated), run.config.data.eval_split
    if run.of_kind(Ended):
        scores = [event for event in scores if event.split == split] or scores
    if not scores:
        return None, ""
    return scores[-1].figures["map"], scores[-1].split


def state_of(run: Run) -> tuple[State, str]:
    """What the run is doing, and the command that is next."""
    from apdist.training.run_folder.checkpoint import newest_sound

    quoted = shlex.quote(run.uri)
    if (holder := holder_of(run.uri)) is not None:
        return "training", f"{run.name}: {holder}"
    if run.of_kind(Ended):
        return "converted" if "origin" in run.info else "finished", ""
    try:
        found = newest_sound(run.uri, with_state=False)
    except ValueError as error:
        return "damaged", str(error)
    if found is None:
        return "stopped", f"from its beginning: apdist train --resume {quoted}"
    return "stopped", f"from step {found.marker.step}: apdist train --resume {quoted}"


def age_of(seconds: float) -> str:
    """Time since the last event."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
