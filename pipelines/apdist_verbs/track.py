"""``apdist track RUN``: send MLflow what it lacks of a run."""

import shlex
from dataclasses import dataclass
from typing import Annotated

from apdist.addresses import without_secrets
from apdist.data import storage
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, open_run
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import Argument, positional
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class Options:
    """Send MLflow what it lacks of a run that is not being trained, and how the run ended."""

    run: Annotated[str, positional("RUN")]
    """Folder of the run."""
    register: Annotated[str, Argument(hint="default: none", is_never_empty=True)] = ""
    """Name in MLflow's registry: the run's model becomes its next version, which takes pictures and
    gives descriptors."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    from apdist.training.tracking.following import settle
    from apdist.training.tracking.registering import refuse_unregistrable

    options = parse(Options, argv, "apdist track")
    run = open_run(storage.absolute(options.run))
    tracking = run.config.tracking
    where = without_secrets(tracking.uri)
    if not tracking.enabled:
        raise ValueError(
            f"{run.uri} was trained with --tracking.no-enabled; give it a store first: "
            f"apdist train --resume {shlex.quote(run.uri)} --tracking.enabled"
        )
    if options.register:
        refuse_unregistrable(run, options.register)
    with held(run.uri, say) as run.lease:
        with phase("sending to MLflow"):
            is_complete = settle(run)
        if not is_complete:
            raise ValueError(f"{where} does not answer; try again when it does")
    say(f"{where} has all {len(run.history)} events of {run.uri}")
    if options.register:
        return registered(run, options.register)
    say_next("see where each run stands", "runs", near(run.uri.rpartition("/")[0]))
    return 0


def registered(run: Run, name: str) -> int:
    """Register the model of ``run``, and tell how it is served.

    Raises:
        ValueError: MLflow does not take it.
    """
    from apdist.training.tracking.registering import register

    uri = run.config.tracking.uri
    with phase("registering the model"):
        try:
            number = register(run, name)
        except Exception as error:  # of MLflow, of its store or of where its files lie
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(
                f"{without_secrets(uri)} does not take the model ({without_secrets(reason)}); look "
                "at its registry and at where its files lie, then do this again"
            ) from error
    model = shlex.quote(f"models:/{name}/{number}")
    say(f"{name}: version {number}, of {run.uri}")
    say(
        f"serve it: MLFLOW_TRACKING_URI={shlex.quote(without_secrets(uri))} mlflow models serve "
        f"-m {model} --env-manager local"
    )
    return 0


def settle_if_behind(run: Run) -> None:
    """Send MLflow what it lacks of a run that nobody trains, as after a kill or an outage."""
    from apdist.training.tracking.following import is_unsettled, settle

    if is_unsettled(run) and not settle(run):
        say(f"MLflow lacks a part of {run.uri}; later: apdist track {shlex.quote(run.uri)}")
