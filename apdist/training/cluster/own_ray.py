"""A Ray that is started for one training: heard here only, stopped by us, gone without a trace."""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

LEAST_FREE = 16 << 20
"""Bytes on the disk of a session: its sockets, its logs and what workers are handed by files."""
_TRIES = 3


def sessions_root() -> Path:
    """Where Ray makes its sessions, by its own rule: `tempfile` passes over a disk that is full."""
    said = os.environ.get("RAY_TMPDIR")
    if not said and sys.platform.startswith("linux"):
        said = os.environ.get("TMPDIR")
    return Path(said or "/tmp")  # noqa: S108 - Ray's


def refuse_without_place(folder: Path) -> None:
    """Refuse a ``folder`` for sessions that Ray could not use; it would wait, and not say why.

    Raises:
        ValueError: nothing can be made there, or its disk is full.
    """
    remedy = "set RAY_TMPDIR to another folder with a short path"
    here = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not here.is_dir() or not os.access(here, os.W_OK | os.X_OK):
        raise ValueError(
            f"Ray keeps its sockets and logs in {folder}, and nothing can be made in {here}; "
            f"{remedy}"
        )
    if (free := shutil.disk_usage(here).free) < LEAST_FREE:
        raise ValueError(
            f"the disk of the temporary files is full: {folder} has {free / 2**20:.1f} MiB left, "
            f"and Ray needs {LEAST_FREE >> 20} for its sockets and logs; make room, or {remedy}"
        )


def give_token() -> None:
    """Give a Ray that is started here a token of its own, where this account has none.

    Ray would write one into the home folder, and an account of a service often has no such folder.
    The token stays: Ray keeps the first that it has read.
    """
    said = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not said and not os.access(os.path.expanduser("~/.ray/auth_token"), os.R_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def on_loopback_only() -> Iterator[None]:
    """A Ray that the block starts listens on the loopback addresses.

    It has no token of its own and runs what it is sent, so nobody else on the network may reach it.
    ``_node_ip_address`` does not do it: Ray takes a loopback address there for a mistake.
    """
    from ray._private import ray_constants

    # Its own switch, for systems that ask before a program listens to others.
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def in_own_session() -> Iterator[None]:
    """A Ray that the block starts gets no signal that is meant for this process's group.

    Ctrl-C in a terminal and SIGTERM of `timeout` or a batch system go to all of the group, and Ray
    would end by it before its workers have written a checkpoint. That it ends with this process is
    seen to by the kernel; where that cannot be, Ray does it by the group, which is left alone.
    """
    from ray._private import services, utils

    if not utils.detect_fate_sharing_support():
        yield
        return
    module: Any = services
    before = module.ConsolePopen
    module.ConsolePopen = functools.partial(before, start_new_session=True)
    try:
        yield
    finally:
        module.ConsolePopen = before


def is_on_loopback() -> bool:
    """Whether all nodes of the Ray that this process has joined are on loopback addresses.

    Asked in a trial of a sweep, too, which does not know how its Ray was started.
    """
    import ray

    addresses = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def session_folder() -> Path | None:
    """Where the Ray that runs keeps logs and sockets; None where it does not say."""
    from ray._private import worker

    node = worker._global_node
    return None if node is None else Path(node.get_session_dir_path())


@contextmanager
def session_removed(folder: Path | None, *users: type[Exception]) -> Iterator[None]:
    """Remove what a Ray leaves that has ended with the block, some megabytes each time.

    Where an error ends the block that is none of the ``users``, its logs stay and their place is
    told.
    """
    try:
        yield
    except Exception as error:
        if folder is not None and not isinstance(error, users):
            logger.warning("Ray's own logs are in %s", folder / "logs")
            folder = None
        raise
    finally:
        if folder is not None:
            _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(_TRIES):  # a process that ends may write a last line meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
    latest = folder.parent / "session_latest"
    with suppress(OSError):
        if os.readlink(latest) == str(folder):
            latest.unlink()
