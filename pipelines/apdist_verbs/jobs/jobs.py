"""``apdist jobs``: the jobs of a cluster."""

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apdist.addresses import without_secrets
from apdist_verbs.jobs.server import Address, connect, jobs_of
from apdist_verbs.terminal.console import said_beside_output, say, table
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.pace import duration

if TYPE_CHECKING:
    from ray.job_submission import JobDetails


@dataclass(frozen=True, kw_only=True)
class Options(Address):
    """List the jobs of a cluster, the newest first."""

    json: bool = False
    """Print them as JSON."""


def main(argv: list[str]) -> int:
    """Parse and list."""
    options = parse(Options, argv, "apdist jobs")
    with said_beside_output() if options.json else nullcontext():
        rows = [described(job, time.time()) for job in jobs_of(connect(options.ray_address))]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif rows:
        names = list(rows[0])
        table(
            f"jobs on {options.ray_address}",
            names,
            [[str(row[name]) for name in names] for row in rows],
        )
    else:
        say(f"no jobs on {options.ray_address}; run one: apdist submit -- VERB ...")
    return 0


def described(job: "JobDetails", now: float) -> dict[str, str]:
    """A job as a person reads it."""
    start, end = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(start)) if start else ""
    return {
        "job": str(job.submission_id),
        "state": str(getattr(job.status, "value", job.status)).lower(),
        "began": began,
        "took": duration((end or now) - start) if start else "",
        "command": without_secrets(job.entrypoint),
    }
