"""``apdist track RUN``: send MLflow what it lacks of a run."""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from apdist.addresses import without_secrets
from apdist.config import Config, override
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
    tracking_uri: Annotated[
        str, Argument(name="tracking.uri", hint="default: the run's own", is_never_empty=True)
    ] = ""
    """Store to send it to, from now on: sqlite:///FILE, or the address of a server."""
    tracking_experiment: Annotated[
        str,
        Argument(name="tracking.experiment", hint="default: the run's own", is_never_empty=True),
    ] = ""
    """Experiment there, likewise."""
    anew: bool = False
    """Send all to a new run of MLflow, as where the one that it had was deleted."""
    register: Annotated[str, Argument(hint="default: none", is_never_empty=True)] = ""
    """Name in MLflow's registry: the run's model becomes its next version, which takes pictures and
    gives descriptors."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    from apdist.training.tracking.registering import refuse_unregistrable

    options = parse(Options, argv, "apdist track")
    run = open_run(storage.absolute(options.run))
    config = with_store(run, options)
    where = without_secrets(config.tracking.uri)
    if options.register:
        refuse_unregistrable(run, options.register)
    with held(run.uri, say) as run.lease:
        send(run, config, options.anew)
    say(f"{where} has all {len(run.history)} events of {run.uri}")
    if options.register:
        return registered(run, options.register)
    say_next("see where each run stands", "runs", near(run.uri.rpartition("/")[0]))
    return 0


def with_store(run: Run, options: Options) -> Config:
    """The run's options, with the store that is wanted.

    Raises:
        ValueError: none is named, or it cannot be one.
    """
    from apdist.training.tracking.database import refuse_unusable

    tracking = run.config.tracking
    if not tracking.enabled and not options.tracking_uri:
        raise ValueError(
            f"{run.uri} was trained with --tracking.no-enabled; say where to send it: apdist track "
            f"{shlex.quote(run.uri)} --tracking.uri {shlex.quote(tracking.uri)}"
        )
    uri = options.tracking_uri or tracking.uri
    experiment = options.tracking_experiment or tracking.experiment
    if uri != tracking.uri:
        refuse_unusable(uri, "correct it")
    store = {"enabled": True, "uri": uri, "experiment": experiment}
    return override(run.config, {f"tracking.{name}": value for name, value in store.items()})


def send(run: Run, config: Config, anew: bool) -> None:
    """Send MLflow what it lacks of ``run``, which keeps a store of ``config`` that took some of it.

    Raises:
        ValueError: the store does not answer, or the run was taken away there.
    """
    from apdist.training.tracking.following import settle
    from apdist.training.tracking.mlflow_run import GoneError, RunGoneError
    from apdist_verbs.start.data_check import used_data

    where, before, old = without_secrets(config.tracking.uri), dict(run.info), run.config
    run.config = config
    if anew:
        run.info["tracking_store"] = ""
    if "datasets" not in run.info:  # it was trained without tracking
        with suppress(ValueError, OSError, storage.StorageError):
            run.info["datasets"] = used_data(config)
    is_complete = is_taken = False
    try:
        with phase("sending to MLflow"):
            is_complete = settle(run, by_hand=True)
        is_taken = bool(run.info["tracking_run_id"])
    except GoneError as error:
        again = ""
        if isinstance(error, RunGoneError):
            again = f", or send it anew: apdist track {shlex.quote(run.uri)} --anew"
        raise ValueError(f"{where}: {error}{again}") from error
    finally:
        if is_taken and config != old:
            run.save_config()
        elif not is_taken:
            run.config, run.info = old, before
            run.save_info()
    if not is_complete:
        raise ValueError(f"{where} does not answer; try again when it does")


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
