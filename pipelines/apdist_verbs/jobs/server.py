"""The job server on a cluster's head: connecting, following a log, how a job ended."""

import asyncio
import logging
import math
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.ending import UnreadError
from apdist_verbs.terminal.fields import Argument
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

TUNNEL = "http://127.0.0.1:8265"
"""Where `ray dashboard` and `kubectl port-forward` put the dashboard of a cluster's head."""
RECONNECT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the job server is."""

    ray_address: Annotated[str, Argument(name="ray.address")] = field(
        default_factory=lambda: os.environ.get("RAY_API_SERVER_ADDRESS") or TUNNEL
    )
    """Dashboard of the cluster's head."""

    def __post_init__(self) -> None:
        if not self.ray_address.startswith(("http://", "https://")):
            raise ValueError(
                f"ray.address {storage.shown(self.ray_address)!r} is not the address of a "
                "dashboard; expected http://HEAD:8265"
            )


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
            f"Ray's job client does not import ({error}); pip install 'ray[default]'"
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
            f"no Ray job server answers at {address} ({first_line(error)}); open a tunnel to the "
            "cluster's head (`ray dashboard` with the file that `ray up` took, `kubectl "
            "port-forward`, `ssh -L 8265:localhost:8265 HEAD`), or correct --ray.address"
        ) from error


def job_of(client: "JobSubmissionClient", name: str) -> "JobDetails":
    """The job of that id, or whose id begins so.

    Raises:
        ValueError: there is none, or several begin so.
    """
    jobs = {str(job.submission_id): job for job in jobs_of(client)}
    if name in jobs:
        return jobs[name]
    found = [job for job in jobs if name and name in job]
    if len(found) == 1:
        return jobs[found[0]]
    if found:
        raise ValueError(f"{name!r} is part of {len(found)} jobs: {', '.join(found[:4])}; give one")
    known = f"it has {', '.join(list(jobs)[:4])}" if jobs else "it has none"
    raise ValueError(f"the cluster has no job {name!r}; {known}: see `apdist jobs`")


def jobs_of(client: "JobSubmissionClient") -> list["JobDetails"]:
    """The submitted jobs, the newest first.

    Raises:
        ValueError: the cluster does not tell.
    """
    try:
        jobs = [job for job in client.list_jobs() if job.submission_id]
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the cluster does not tell its jobs ({first_line(error)}); look at its dashboard"
        ) from error
    return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)


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
            try:
                sys.stdout.write(text[max(0, self.num_printed - seen) :])
                sys.stdout.flush()
            except BrokenPipeError:  # not of the connection, which would be opened again
                raise UnreadError from None
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
