"""``apdist submit``: run a verb as a job on a Ray cluster, follow its log, end with its exit code.

Only the command line travels: the cluster's image has apdist installed.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist_verbs.jobs.server import Address, connect, exit_code, first_line, follow
from apdist_verbs.start.command import check_command
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.options import parse

STOP_WAIT_S = 60
"""Seconds that `ray job stop` leaves for the last checkpoint; Ray's own 3 are too few."""

USAGE = "apdist submit [--ray.address http://HEAD:8265] [--working-dir DIR] -- VERB ..."


@dataclass(frozen=True, kw_only=True)
class Options(Address):
    """Run a verb as a job on a Ray cluster: apdist submit [OPTIONS] -- VERB ...

    Ctrl-C ends the following, not the job.
    """

    working_dir: str = ""
    """Folder that is copied to the cluster and in which the job runs; empty: none."""
    detach: bool = False
    """Return as soon as the cluster has the job; `apdist logs` follows it later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.working_dir and not Path(self.working_dir).is_dir():
            raise ValueError(f"--working-dir {self.working_dir} is no folder")


def main(argv: list[str]) -> int:
    """Parse and run; returns the exit code of the job."""
    own, verb = split_arguments(argv)
    options = parse(Options, own, "apdist submit")
    if not verb:
        raise ValueError(f"nothing to run; expected: {USAGE}")
    check_command(verb)
    return submit(options, shlex.join(["apdist", *verb]))


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and after the first ``--``."""
    if "--" not in argv:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def submit(options: Options, entrypoint: str) -> int:
    """Hand ``entrypoint`` to the cluster and follow it to its end."""
    client = connect(options.ray_address)
    runtime_env: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
    if options.working_dir:
        runtime_env["working_dir"] = options.working_dir
    try:
        job = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    except Exception as error:  # bare RuntimeErrors with the server's answer, among others
        raise ValueError(
            f"{options.ray_address} does not take the job ({first_line(error)}); see the cluster's "
            "dashboard, or leave large files out of --working-dir"
        ) from error
    say(f"job {job} on {options.ray_address}: {entrypoint}")
    if options.detach:
        say(commands(options, job))
        return 0
    try:
        follow(client, job)
    except KeyboardInterrupt:
        say(f"\nthe job goes on; {commands(options, job)}")
        return 130
    return exit_code(client, job)


def commands(address: Address, job: str) -> str:
    """What to do with a job that runs."""
    to = shlex.join([job, "--ray.address", address.ray_address])
    return f"see `apdist logs {to}`, `apdist stop {to}`"
