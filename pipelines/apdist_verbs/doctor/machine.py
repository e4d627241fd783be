"""This machine: versions, cores, memory, disks, GPUs."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from apdist.config.extras import EXTRAS, install
from apdist.data import storage
from apdist.training.cluster.joining import LONGEST_FOLDER
from apdist.training.cluster.own_ray import sessions_root
from apdist_verbs.doctor.finding import State
from apdist_verbs.start.checks import machine_bytes

GIB = 1 << 30
LEAST_MEMORY = 4 * GIB
"""Ray, a driver and two workers with a small network."""
LEAST_SHARED = GIB
"""Ray's object store and the batches of loader processes lie there."""
LEAST_DISK = 5 * GIB
"""Ray stops taking work at 95 % of a full disk; checkpoints come on top."""
PACKAGES = ("apdist", "torch", "ray", "numpy", "pyarrow", "webdataset", "boto3", "mlflow")
SHARED = Path("/dev/shm")  # noqa: S108 - where Ray puts them

Found = tuple[State, str, str]


def versions() -> Found:
    """Python and the packages of every training."""
    there, missing = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return "wrong", f"not installed: {', '.join(missing)}", "install apdist again: make demo"
    return "good", ", ".join(there), ""


def extras() -> Found:
    """What is installed beyond it."""
    lacking = [name for name, module in EXTRAS.items() if not _imports(module)]
    if not lacking:
        return "good", "all installed", ""
    return (
        "to know",
        f"not installed: {', '.join(lacking)}",
        f"where they are wanted: {install(*lacking)}",
    )


def _imports(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def cores_and_memory() -> Found:
    """What Ray finds here, and what a container leaves of it."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = machine_bytes()
    found = f"{usable} cores, {memory / GIB:.1f} GiB"
    if memory < LEAST_MEMORY:
        return (
            "to know",
            found,
            (
                f"under {LEAST_MEMORY // GIB} GiB Ray ends workers for want of memory; train "
                "without it: --ray.num-workers 0"
            ),
        )
    return "good", found, ""


def shared_memory(folder: Path = SHARED) -> Found:
    """Room for Ray's object store."""
    if not folder.is_dir():
        return "to know", f"no {folder}", "Ray keeps objects on the disk instead, which is slower"
    size = shutil.disk_usage(folder).total
    found = f"{folder} {size / GIB:.1f} GiB"
    if size < LEAST_SHARED:
        return (
            "to know",
            found,
            ("give a container more, or Ray keeps objects on the disk: docker run --shm-size 4g"),
        )
    return "good", found, ""


def temporary_files() -> Found:
    """Where Ray's sockets and sessions lie."""
    folder = str(sessions_root())
    if len(folder) > LONGEST_FOLDER:
        return (
            "wrong",
            f"{folder} has {len(folder)} characters",
            (
                f"Ray's sockets allow {LONGEST_FOLDER}; set RAY_TMPDIR to a short one: "
                "export RAY_TMPDIR=/tmp"
            ),
        )
    return _room(folder, f"set TMPDIR to a disk with more room than {folder} has")


def disk(runs: str) -> Found:
    """Room for runs and checkpoints, where they are on this machine."""
    path = storage.local_path(storage.absolute(runs))
    if path is None:
        return "good", "runs are not kept on this machine", ""
    there = next(folder for folder in (path, *path.parents) if folder.is_dir())
    return _room(str(there), "make room, or keep runs elsewhere: --run.output s3://BUCKET/runs")


def _room(folder: str, remedy: str) -> Found:
    free = shutil.disk_usage(folder).free
    found = f"{folder}: {free / GIB:.1f} GiB free"
    if free < LEAST_DISK:
        return "to know", found, remedy
    return "good", found, ""


def gpus() -> Found:
    """GPUs, and whether this torch can use them."""
    import torch

    if not torch.cuda.is_available():
        if any(Path("/dev").glob("nvidia[0-9]*")):
            return (
                "wrong",
                f"there is one, which torch {torch.__version__} cannot use",
                ("install torch's CUDA build, and a driver that is new enough for it (nvidia-smi)"),
            )
        return "to know", "none; the CPU computes", ""
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    named = ", ".join(f"{card.name} {card.total_memory / GIB:.0f} GiB" for card in cards)
    found = f"{named}; CUDA {torch.version.cuda}"
    if not torch.distributed.is_nccl_available():
        return "wrong", f"{found}, without NCCL", "install a build of torch that has it"
    return "good", f"{found}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}", ""
