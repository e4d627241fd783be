"""``apdist runs [FOLDER]``: the runs in a folder: state, step, mAP, age, and what to do next."""

import shlex
import time
from dataclasses import dataclass
from typing import Annotated

from apdist.data import storage
from apdist.training.events import Ended, Evaluated
from apdist.training.run_folder.lease import holder_of
from apdist.training.run_folder.runs import CONFIG_NAME, Run, open_run
from apdist.training.sweeps.state import read_head, read_state
from apdist_verbs.terminal.console import say, table
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class Options:
    """List runs: state, step, mAP, age, and what to do next."""

    folder: Annotated[str, positional("FOLDER")] = "runs"
    """Folder or s3:// prefix that holds runs, or a sweep with its trials."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    folder = storage.absolute(parse(Options, argv, "apdist runs").folder)
    uris = [storage.join(folder, name) for name in storage.list_folders(folder)]
    uris = [uri for uri in uris if storage.exists(storage.join(uri, CONFIG_NAME))]
    if not uris:
        raise ValueError(f"no runs in {folder}; give the folder that --run.output named")
    with phase("reading the runs"):
        rows = [row_of(uri) for uri in uris]
    table(f"runs in {folder}", ["run", "state", "step", "mAP", "age"], [r[:-1] for r in rows])
    for *_, hint in rows:
        if hint:
            say(hint)
    done = ("finished", "converted")
    finished = {uri for uri, row in zip(uris, rows, strict=True) if row[1] in done}
    if finished:
        last = max(finished, key=lambda uri: open_run(uri).history[-1].time_ms)
        say_next("measure the last finished one", "evaluate", "--run", near(last))
    return 0


def row_of(uri: str) -> list[str]:
    """A run in words, and the command that is next, if one is."""
    name = uri.rsplit("/", 1)[-1]
    try:
        run = open_run(uri)
    except ValueError as error:
        if " is a sweep;" in str(error):
            return sweep_row(uri)
        return [name, "damaged", "", "", "", str(error)]
    state, hint = state_of(run)
    return [
        name,
        state,
        f"{run.steps_done}/{run.config.training.steps}",
        score_of(run),
        age_of(run),
        hint,
    ]


def sweep_row(uri: str) -> list[str]:
    """A sweep in words, its trials in place of steps."""
    name, quoted = uri.rsplit("/", 1)[-1], shlex.quote(uri)
    try:
        head, records = read_head(uri), read_state(uri).records
        total = int(head["settings"]) * int(head["repeats"])
    except (ValueError, KeyError, TypeError) as error:
        return [name, "damaged", "", "", "", str(error)]
    ended = sum(record.state not in ("waiting", "running") for record in records)
    trials, hint = f"{ended}/{total} trials", f"{name}: its trials: apdist runs {quoted}"
    if holder_of(uri) is not None:
        return [name, "sweep, searching", trials, "", "", hint]
    if ended >= total:
        return [name, "sweep, finished", trials, "", "", hint]
    return [
        name,
        "sweep, stopped",
        trials,
        "",
        "",
        f"{hint}; go on: apdist sweep --resume {quoted}",
    ]


def score_of(run: Run) -> str:
    """MAP of the evaluation split at the end; before it, of what was measured last."""
    scores, split = run.of_kind(Evaluated), run.config.data.eval_split
    if run.of_kind(Ended):
        scores = [event for event in scores if event.split == split] or scores
    if not scores:
        return "-"
    figure = f"{scores[-1].figures['map']:.4f}"
    return figure if scores[-1].split == split else f"{figure} {scores[-1].split}"


def state_of(run: Run) -> tuple[str, str]:
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


def age_of(run: Run) -> str:
    """Time since the last event."""
    if not run.history:
        return "-"
    seconds = time.time() - run.history[-1].time_ms / 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
