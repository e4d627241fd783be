"""``apdist submit``: run a verb as a job on a Ray cluster, follow its log, end with its exit code.

Only the command line travels: the cluster's image has apdist installed. The client is Ray's own
`ray.job_submission`, and `ray job list`, `logs` and `stop` work on the job as on any other.
"""

import asyncio
import logging
import math
import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from apdist_verbs.start.command import check_command
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import Argument
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TUNNEL = "http://127.0.0.1:8265"
"""Where `ray dashboard ray_cluster.yaml` and `kubectl port-forward` put the head's dashboard."""
RECONNECT_S = 60.0
STOP_WAIT_S = 60
"""Seconds that `ray job stop` leaves for the last checkpoint; Ray's own 3 are too few."""

USAGE = "apdist submit [--ray.address http://HEAD:8265] [--working-dir DIR] -- VERB ..."


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a verb as a job on a Ray cluster: apdist submit [OPTIONS] -- VERB ...

    Ctrl-C ends the following, not the job.
    """

    ray_address: Annotated[str, Argument(name="ray.address")] = field(
        default_factory=lambda: os.environ.get("RAY_API_SERVER_ADDRESS") or TUNNEL
    )
    """Dashboard of the cluster's head."""
    working_dir: str = ""
    """Folder that is copied to the cluster and in which the job runs; empty: none."""

    def __post_init__(self) -> None:
        if not self.ray_address.startswith(("http://", "https://")):
            raise ValueError(
                f"ray.address {self.ray_address!r} is not the address of a dashboard; "
                "expected http://HEAD:8265"
            )
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
    try:
        follow(client, job)
    except KeyboardInterrupt:
        to = f"--address {shlex.quote(options.ray_address)}"
        say(f"\nthe job goes on; see `ray job logs {to} --follow {job}`, `ray job stop {to} {job}`")
        return 130
    return exit_code(client, job)


@phase("connecting")
def connect(address: str) -> "JobSubmissionClient":
    """A client of the job server at ``address``.

    Raises:
        ValueError: nobody answers, the token is missing or wrong, or Ray lacks its job client.
    """
    # Ray prefers this variable and RAY_ADDRESS to the argument; here the option decides.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except Exception as error:  # missing, or a package of it in a version that does not fit
        raise ValueError(
            f"Ray's job client is not installed ({error}); pip install 'ray[default]'"
        ) from error
    logging.getLogger("ray.dashboard").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ValueError(
            f"the cluster at {address} wants another token ({error.message.splitlines()[0]}); set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's"
        ) from error
    except Exception as error:  # ConnectionError, RuntimeError, or what requests makes of a URL
        raise ValueError(
            f"no Ray job server answers at {address} ({first_line(error)}); open the "
            "tunnel with `ray dashboard ray_cluster.yaml`, or correct --ray.address"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what a library says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def follow(client: "JobSubmissionClient", job: str) -> None:
    """Print the log until the job has ended; a connection that breaks is opened again.

    Raises:
        ValueError: the cluster stays away.
    """
    from aiohttp import ClientError

    log = JobLog(client, job)
    while True:
        try:
            asyncio.run(log.show())
            if client.get_job_status(job).is_terminal():
                return
        except (OSError, RuntimeError, ClientError) as error:
            log.deadline = min(log.deadline, time.monotonic() + RECONNECT_S)
            if time.monotonic() > log.deadline:
                raise ValueError(
                    f"the cluster has not answered for {RECONNECT_S:.0f} s ({error}); job {job} "
                    "may go on without us"
                ) from error
        time.sleep(1)


class JobLog:
    """The log of a job, of which nothing is printed twice."""

    def __init__(self, client: "JobSubmissionClient", job: str) -> None:
        self.client, self.job = client, job
        self.num_printed = 0
        self.deadline = math.inf
        """When to give up; set at a failure, lifted by an answer."""

    async def show(self) -> None:
        """Print what is new; each connection sends the log from its beginning."""
        seen = 0
        async for text in self.client.tail_job_logs(self.job):
            self.deadline = math.inf
            sys.stdout.write(text[max(0, self.num_printed - seen) :])
            sys.stdout.flush()
            seen += len(text)
            self.num_printed = max(self.num_printed, seen)


def exit_code(client: "JobSubmissionClient", job: str) -> int:
    """The exit code of the job's command; 1 where it never had one."""
    try:
        info = client.get_job_info(job)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the cluster does not tell how job {job} ended ({first_line(error)}); ask it: "
            f"ray job status {job}"
        ) from error
    code = info.driver_exit_code
    if info.status == "SUCCEEDED":
        return 0
    if code is None:  # it never ran, or was stopped
        say(f"job {job} {info.status.lower()}: {' '.join(str(info.message).split())}")
        return 1
    say(f"job {job} failed with exit code {code}")
    return code if code > 0 else 128 - code  # as a shell counts signals
