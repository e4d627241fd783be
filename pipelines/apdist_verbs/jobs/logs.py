"""``apdist logs JOB``: what a job writes, to its end."""

from dataclasses import dataclass
from typing import Annotated

from apdist_verbs.jobs.server import Address, connect, exit_code, follow, job_of
from apdist_verbs.jobs.submit import commands
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.options import parse


@dataclass(frozen=True, kw_only=True)
class Options(Address):
    """Show the log of a job from its beginning and follow it to its end.

    Ends with the exit code of the job. Ctrl-C ends the following, not the job.
    """

    job: Annotated[str, positional("JOB")]
    """Its id, or a part of it that no other job has."""


def main(argv: list[str]) -> int:
    """Parse and follow; returns the exit code of the job."""
    options = parse(Options, argv, "apdist logs")
    client = connect(options.ray_address)
    job = str(job_of(client, options.job).submission_id)
    try:
        follow(client, job)
    except KeyboardInterrupt:
        say(f"\nthe job goes on; {commands(options, job)}")
        return 130
    return exit_code(client, job)
