"""Options of a run: its workers, its tracking, its folder."""

import re
from dataclasses import dataclass
from typing import Literal

from apdist.addresses import shown
from apdist.config.values import at_least

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The cluster and the workers on it."""

    address: str = "local"
    """`local` starts Ray on this machine (in a submitted job: joins the job's cluster); `auto` or
    host:port joins a running cluster."""
    num_workers: int | str = AUTO
    """Worker processes; auto: one for each GPU of the machine, or that is free on the cluster, when
    the run begins (for a trial of a sweep one in all), two where there is none. 0 trains in this
    process, without Ray. A range, as 2-8: as many of them as there is room for, looked at anew at
    each checkpoint and after each failure."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """A GPU for each worker, or none. auto: where the machine, or the cluster, has that many when
    the run begins."""
    cpus_per_worker: int = 1
    """CPUs reserved for each worker; also its torch threads."""
    autoscaling: bool = False
    """The cluster grows on demand: wait for nodes instead of refusing too many workers."""
    restarts_per_hour: int = 3
    """Failures of workers or hosts within an hour after which the run still goes on by itself;
    hosts taken back with a notice, and other changes of their number, do not count."""

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        is_host_and_port = host and not set(host) & set("/@") and port.isdigit()
        if self.address not in ("local", "auto") and not is_host_and_port:
            raise ValueError(
                "ray.address must be local, auto or HOST:PORT, where PORT is that of the cluster's "
                f"head, often 6379; got {shown(self.address).rpartition('@')[2]!r}"
            )
        _refuse_bad_number(self.num_workers)
        at_least("ray.cpus_per_worker", self.cpus_per_worker, 1)
        at_least("ray.restarts_per_hour", self.restarts_per_hour, 0)

    @property
    def least_workers(self) -> int:
        """Fewer of them do not train. Of auto 1: it stands for a number once Ray is there."""
        number = self.num_workers
        if number == AUTO:
            return 1
        return number if isinstance(number, int) else int(number.partition("-")[0])

    @property
    def most_workers(self) -> int:
        """More of them are not started. Of auto 1, likewise."""
        number = self.num_workers
        if number == AUTO:
            return 1
        return number if isinstance(number, int) else int(number.partition("-")[2])

    @property
    def is_elastic(self) -> bool:
        """Whether their number may change while the training goes on."""
        return isinstance(self.num_workers, str) and self.num_workers != AUTO


def _refuse_bad_number(number: int | str) -> None:
    """Check `ray.num_workers`.

    Raises:
        ValueError: it is neither auto, a number nor a range of numbers.
    """
    if isinstance(number, int):
        at_least("ray.num_workers", number, 0)
        return
    if number == AUTO:
        return
    found = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", number)
    if found is None:
        raise ValueError(
            f"ray.num_workers must be auto, a number, as 2, or a range, as 2-8; got {number!r}"
        )
    least, most = map(int, found.groups())
    if least == 0:
        raise ValueError(
            f"ray.num_workers {number}: a range begins at 1 or more; 0 alone trains without Ray"
        )
    if most < least:
        raise ValueError(
            f"ray.num_workers {number}: the smaller number comes first, as {most or 1}-{least}"
        )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """MLflow."""

    enabled: bool = True
    """Log options, curves, the machine, the model and the report."""
    uri: str = "sqlite:///mlflow.db"
    """Tracking store: sqlite:///FILE, or the http(s):// address of a server."""
    experiment: str = "apdist"
    """Experiment that holds the runs."""
    max_model_mb: int = 512
    """Largest model in MB that is kept beside the run there too; 0 keeps it in the folder only."""

    def __post_init__(self) -> None:
        at_least("tracking.max_model_mb", self.max_model_mb, 0)
        if self.uri.startswith("file:") or "://" not in self.uri:
            raise ValueError(
                f"tracking.uri {shown(self.uri)!r} is not a store that MLflow accepts; "
                "use sqlite:///FILE or http://HOST:PORT"
            )
        if (seen := shown(self.uri)) != self.uri:
            raise ValueError(
                f"tracking.uri {seen} holds a password or a token, which is not written down; "
                "leave it out of the address and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for PostgreSQL PGPASSWORD"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The folder of this run."""

    output: str = "runs"
    """Folder or s3:// prefix in which the run's folder is made."""
    name: str = ""
    """Name of the run's folder; empty: preset, date and time. An existing one is refused."""

    def __post_init__(self) -> None:
        if self.name and (set(self.name) & set("/\\:") or self.name.startswith(".")):
            raise ValueError(
                f"run.name {self.name!r} must be a plain folder name: no / \\ : and no leading dot"
            )
