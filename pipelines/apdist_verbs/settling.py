"""What MLflow lacks of a run is sent before a verb works on it."""

import shlex

from apdist.training.run_folder.runs import Run
from apdist_verbs.terminal.console import say


def settle_if_behind(run: Run) -> None:
    """Send MLflow what it lacks of a run that nobody trains, as after a kill or an outage."""
    from apdist.training.tracking.following import is_unsettled, settle

    if is_unsettled(run) and not settle(run):
        say(f"MLflow lacks a part of {run.uri}; later: apdist track {shlex.quote(run.uri)}")
