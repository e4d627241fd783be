"""A job server as Ray's client shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.job_submission import JobStatus


class Cluster:
    """Two jobs: one that has ended, one that runs until it is stopped."""

    def __init__(self) -> None:
        self.status = {
            "raysubmit_old": JobStatus.SUCCEEDED,
            "raysubmit_new": JobStatus.RUNNING,
        }
        self.asked_to_stop: list[str] = []

    def list_jobs(self) -> list[Any]:
        entrypoint = "apdist train glyphs --data.shards https://u:hidden@host/x"
        return [
            SimpleNamespace(
                submission_id=name,
                status=status,
                entrypoint=entrypoint,
                start_time=1_000 * (1 + number),
                end_time=62_000 if status.is_terminal() else None,
            )
            for number, (name, status) in enumerate(self.status.items())
        ] + [SimpleNamespace(submission_id=None)]  # a driver that nobody submitted

    def stop_job(self, job: str) -> None:
        self.asked_to_stop.append(job)
        self.status[job] = JobStatus.STOPPED

    def get_job_status(self, job: str) -> JobStatus:
        return self.status[job]

    def get_job_info(self, job: str) -> Any:
        return SimpleNamespace(status="FAILED", driver_exit_code=3, message="")
