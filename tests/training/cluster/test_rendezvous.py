"""Workers on one machine meet on its loopback addresses, and nowhere else."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from apdist.training.cluster.rendezvous import (
    LoopbackBackend,
    LoopbackTorchConfig,
    PartingBackend,
    PartingTorchConfig,
    join,
    loopback_name,
    open_store,
)
from tests.workers import PRELOADED

TIMEOUT_S = 60


def work(rank: int, ports: Any, found: Any) -> None:
    """One of two workers, as Ray's backend runs it: the first opens the store."""
    if rank == 0:
        ports.put(open_store(2, TIMEOUT_S))
    join("gloo", rank, 2, ports.get() if rank else 0, TIMEOUT_S)
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    heard = {end.laddr.ip for end in psutil.Process().net_connections("tcp") if not end.raddr}
    found.put((int(total), heard, os.environ["GLOO_SOCKET_IFNAME"]))
    dist.barrier()
    dist.destroy_process_group()


def test_the_store_answers_on_loopback_only() -> None:
    before = set(psutil.Process().net_connections("tcp"))
    port = open_store(2, TIMEOUT_S)
    new = set(psutil.Process().net_connections("tcp")) - before
    assert {end.laddr for end in new if end.status == psutil.CONN_LISTEN} == {("127.0.0.1", port)}
    other = TCPStore("127.0.0.1", port, 2, timeout=timedelta(seconds=TIMEOUT_S))
    other.set("greeting", "hello")
    assert other.get("greeting") == b"hello"


@pytest.mark.slow
def test_two_workers_meet_and_nobody_else_is_let_in() -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ports, found = context.Queue(), context.Queue()
    workers = [context.Process(target=work, args=(rank, ports, found)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = [found.get(timeout=TIMEOUT_S) for _ in workers]
    for worker in workers:
        worker.join(TIMEOUT_S)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert {total for total, _, _ in results} == {3}
    assert set.union(*(heard for _, heard, _ in results)) == {"127.0.0.1"}
    assert {name for _, _, name in results} == {loopback_name()}


def test_ray_gets_the_backend_with_the_configuration() -> None:
    assert LoopbackTorchConfig(backend="gloo").backend_cls is LoopbackBackend
    assert PartingTorchConfig(backend="gloo").backend_cls is PartingBackend


@pytest.mark.parametrize("kind", [LoopbackTorchConfig, PartingTorchConfig])
def test_workers_keep_their_process_group_until_they_are_killed(
    kind: type[PartingTorchConfig],
) -> None:
    config = kind(backend="gloo")
    asked: list[object] = []
    group = SimpleNamespace(execute_async=lambda *given, **_: asked.append(given))
    config.backend_cls().on_shutdown(group, config)
    assert not asked
