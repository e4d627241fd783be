"""Options of a run: its workers, its tracking, its folder."""

from dataclasses import dataclass
from typing import Literal

from apdist.addresses import shown
from apdist.config.values import at_least


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The cluster and the workers on it."""

    address: str = "local"
    """`local` starts Ray on this machine (in a submitted job: joins the job's cluster); `auto` or
    host:port joins a running cluster."""
    num_workers: int = 2
    """Worker processes; 0 trains in this process, without Ray."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """A GPU for each worker, or none. auto: where the machine, or the cluster, has that many."""
    cpus_per_worker: int = 1
    """CPUs reserved for each worker; also its torch threads."""
    autoscaling: bool = False
    """The cluster grows on demand: wait for nodes instead of refusing too many workers."""
    max_failures: int = 3
    """Worker or node failures after which the run gives up."""

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        is_host_and_port = host and not set(host) & set("/@") and port.isdigit()
        if self.address not in ("local", "auto") and not is_host_and_port:
            raise ValueError(
                "ray.address must be local, auto or HOST:PORT, where PORT is that of the cluster's "
                f"head, often 6379; got {shown(self.address).rpartition('@')[2]!r}"
            )
        at_least("ray.num_workers", self.num_workers, 0)
        at_least("ray.cpus_per_worker", self.cpus_per_worker, 1)
        at_least("ray.max_failures", self.max_failures, 0)


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
