"""``apdist stop JOB``: ask a job for a last checkpoint and its end."""

import time
from dataclasses import dataclass
from typing import Annotated

from apdist_verbs.jobs.server import Address, connect, first_line, job_of
from apdist_verbs.jobs.submit import STOP_WAIT_S
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

LOOK_AGAIN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Options(Address):
    """Stop a job: a training writes a checkpoint first, and --resume goes on from it."""

    job: Annotated[str, positional("JOB")]
    """Its id, or a part of it that no other job has."""


def main(argv: list[str]) -> int:
    """Parse, stop, wait; returns 0 where the job has ended."""
    options = parse(Options, argv, "apdist stop")
    client = connect(options.ray_address)
    job = job_of(client, options.job)
    name = str(job.submission_id)
    if job.status.is_terminal():
        say(f"job {name} has ended: {job.status.value.lower()}")
        return 0
    try:
        client.stop_job(name)
        with phase(f"waiting for the last checkpoint of {name}"):
            deadline = time.monotonic() + 2 * STOP_WAIT_S
            while not (status := client.get_job_status(name)).is_terminal():
                if time.monotonic() > deadline:
                    say(f"job {name} has not ended in {2 * STOP_WAIT_S} s; see `apdist jobs`")
                    return 1
                time.sleep(LOOK_AGAIN_S)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the cluster does not stop job {name} ({first_line(error)}); look at its dashboard"
        ) from error
    say(f"job {name}: {status.value.lower()}")
    return 0
