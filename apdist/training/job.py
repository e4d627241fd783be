"""What a driver gives to each worker of a run: no more than its options, and where it is kept."""

from dataclasses import dataclass

from apdist.config import Config
from apdist.training.events import WorkersFailed
from apdist.training.run_folder.lease import Lease


@dataclass(frozen=True)
class Job:
    """What every worker of a run gets; pickled on its way there."""

    config: Config
    run: str
    """URI of the run's folder."""
    lease: Lease | None = None
    """The driver's lease of the run: once it is lost, nothing more is committed."""
    resumed: WorkersFailed | None = None
    """For a run that is resumed: how it ended before."""
    is_trial: bool = False
    """Whether it is a trial of a sweep: then only the watched split is measured (see
    `watched_alone`), and an exception is not retried by Ray but by the sweep."""
