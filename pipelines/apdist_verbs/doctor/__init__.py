"""``apdist doctor``: what this machine, its cluster and its stores lack for a training."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields
from typing import Annotated

from apdist.config import RayConfig, TrackingConfig
from apdist_verbs.doctor.finding import Check, Finding, examined
from apdist_verbs.terminal.console import say, table
from apdist_verbs.terminal.fields import Argument, shown_default
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class Options:
    """Look at the machine, the cluster and the stores of a training, and say what to do.

    Ends with 0 where nothing is wrong, else with 1.
    """

    ray_address: Annotated[str, Argument(name="ray.address")] = RayConfig.address
    """Ray of the training: local, auto or HOST:PORT."""
    storage: str = "runs"
    """Folder or s3:// prefix of the runs: a small file is written there, read and removed."""
    shards: Annotated[str, shown_default("none")] = ""
    """Folder or s3:// prefix with the shards of a training."""
    tracking_uri: Annotated[str, Argument(name="tracking.uri")] = TrackingConfig.uri
    """MLflow of the training."""
    json: bool = False
    """Print what was found as JSON."""

    def __post_init__(self) -> None:
        RayConfig(address=self.ray_address)
        TrackingConfig(uri=self.tracking_uri)


def main(argv: list[str]) -> int:
    """Parse and look."""
    options = parse(Options, argv, "apdist doctor")
    found = look(options)
    wrong = [finding for finding in found if finding.state == "wrong"]
    if options.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in found], indent=2) + "\n")
        return 1 if wrong else 0
    table(
        "apdist doctor",
        ["", *(field.name for field in fields(Finding) if field.name != "remedy")],
        [[finding.mark, finding.name, finding.state, finding.found] for finding in found],
    )
    for finding in found:
        if finding.remedy:
            say(f"{finding.name}: {finding.remedy}")
    good = sum(finding.state == "good" for finding in found)
    say(f"{good} good, {len(found) - good - len(wrong)} to know, {len(wrong)} wrong")
    return 1 if wrong else 0


def look(options: Options) -> list[Finding]:
    """Everything, in the order in which a training needs it."""
    from apdist_verbs.doctor import machine, services

    checks: dict[str, Check] = {
        "versions": machine.versions,
        "extras": machine.extras,
        "cores and memory": machine.cores_and_memory,
        "shared memory": machine.shared_memory,
        "temporary files": machine.temporary_files,
        "disk": lambda: machine.disk(options.storage),
        "GPU": machine.gpus,
        "Ray": lambda: services.ray(options.ray_address),
        "runs": lambda: services.stores(options.storage),
        "clock": lambda: services.clock(options.storage, options.shards),
        "shards": lambda: services.shards(options.shards),
        "MLflow": lambda: services.tracking(options.tracking_uri),
    }
    found = []
    for name, check in checks.items():
        with phase(f"looking at {name}"):
            found.append(examined(name, check))
    return found
