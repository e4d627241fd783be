"""How the workers of a Ray meet and part: on one machine on its loopback addresses.

Torch's own store of addresses listens to everybody, and gloo where the machine's name leads.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from ray.train.backend import BackendConfig
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from torch._C._distributed_c10d import TCPStore

HOST = "127.0.0.1"

_opened: list[TCPStore] = []
"""In the first worker's process, until it has joined."""


class PartingBackend(_TorchBackend):
    """Ray's way to a process group, and no way back: the workers' end is that of the group.

    Ray destroys the group before it ends the workers. One that is in the middle of a step then has
    none, which is a ValueError, as bad input is; one that hangs is waited for; and where Ray itself
    has killed one for want of memory the run would end.
    """

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Leave the workers alone; Ray kills them next."""


class PartingTorchConfig(TorchConfig):
    """A `TorchConfig` for workers that are killed in the end."""

    @property
    def backend_cls(self) -> type[PartingBackend]:
        """What sets the process group up."""
        return PartingBackend


class LoopbackBackend(PartingBackend):
    """Ray's way to a process group, with a store that is heard on this machine only."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Let all workers join one process group."""
        import ray

        assert isinstance(backend_config, LoopbackTorchConfig)
        size, timeout_s = len(worker_group), backend_config.timeout_s
        port = worker_group.execute_single(0, open_store, size, timeout_s)
        worker_group.execute(_set_torch_distributed_env_vars)
        backend = str(backend_config.backend)
        ray.get(
            [
                worker_group.execute_single_async(i, join, backend, i, size, port, timeout_s)
                for i in range(size)
            ]
        )


class LoopbackTorchConfig(PartingTorchConfig):
    """A `TorchConfig` for workers that are on one machine; its ``backend`` must be named."""

    @property
    def backend_cls(self) -> type[LoopbackBackend]:
        """What sets the process group up."""
        return LoopbackBackend


def open_store(size: int, timeout_s: int) -> int:
    """Open the store in the first worker's process; returns its port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((HOST, 0))
    port: int = listener.getsockname()[1]
    store = TCPStore(
        HOST,
        port,
        size,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout_s),
        master_listen_fd=listener.detach(),  # the store's from here on
    )
    _opened[:] = [store]
    return port


def join(backend: str, rank: int, size: int, port: int, timeout_s: int) -> None:
    """Make this process worker ``rank`` of ``size``."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback_name())
    timeout = timedelta(seconds=timeout_s)
    store = _opened.pop() if rank == 0 else TCPStore(HOST, port, size, timeout=timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def loopback_name() -> str:
    """What this machine calls its loopback interface: lo or lo0."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
