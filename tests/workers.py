"""Run a function on several worker processes that talk over gloo."""

import datetime
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from apdist.training.step.sharding import release_process_groups

# Long enough for kernels that a worker compiles on busy cores while the others wait.
TIMEOUT_S = 100
# What every worker needs, imported once: a worker is a fork of the process that has done so.
# FSDP2 imports dynamo, pyarrow pandas, and decoding cv2 when they first run.
PRELOADED = ["apdist.training.loop", "pytest", "torch._dynamo", "tests.loaded_kernels"]
PRELOADED += ["pandas", "cv2"]


def on_workers(num_workers: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` returns on each worker; 1 runs in this process."""
    if num_workers == 1:
        return [function(*arguments)]
    with tempfile.TemporaryDirectory() as folder:
        mp.get_context("forkserver").set_forkserver_preload(PRELOADED)
        mp.start_processes(  # type: ignore[no-untyped-call]
            _work,
            (num_workers, folder, function, arguments),
            nprocs=num_workers,
            start_method="forkserver",
        )
        return [
            torch.load(Path(folder, f"{rank}.pt"), weights_only=False)
            for rank in range(num_workers)
        ]


def _work(
    rank: int, num_workers: int, folder: str, function: Callable[..., Any], arguments: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=num_workers,
        timeout=datetime.timedelta(seconds=TIMEOUT_S),
    )
    try:
        torch.save(function(*arguments), Path(folder, f"{rank}.pt"))
        dist.barrier()  # who leaves early breaks the connections of the others
    finally:
        release_process_groups()
        dist.destroy_process_group()
    assert not gloo_threads(), "they could ask for the interpreter's lock while it is taken down"


def gloo_threads() -> list[str]:
    """Names of the threads in which gloo does its work (on Linux; elsewhere none is found)."""
    names = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name.startswith("pt_gloo")]
