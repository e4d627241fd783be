"""Whether a Ray cluster answers at an address; Ray itself would try for minutes."""

import os
import socket
import subprocess
import sys
from contextlib import suppress

KNOCK_S = 8.0
"""Seconds for a connection to be accepted."""
ANSWER_S = 15.0
"""Seconds for Ray's own status; on an idle machine it takes two, most of them importing."""
BUSY_S = 120.0
"""The same, of what speaks as Ray does: a head with much to do answers late, and is one."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""Of a client of gRPC: HTTP/2's preface, and a frame of settings that changes none."""
_KIND_AT, _SETTINGS = 3, b"\x04"
"""Where a frame says what it is; the first of a server holds its settings."""
REMEDY = "start one with `ray start --head`, or use --ray.address local"


def refuse_if_unreachable(address: str) -> None:
    """Knock at ``address`` and ask for the cluster's status.

    Raises:
        ValueError: nobody listens, or what listens does not speak as Ray does.
    """
    _ask(refuse_if_nobody_listens(address))


def refuse_if_nobody_listens(address: str) -> str:
    """Knock at ``address``; where it is, after a look at RAY_ADDRESS.

    Raises:
        ValueError: nobody listens there.
    """
    where, remedy = f"ray.address {address!r}", REMEDY
    if address == "auto" and (said := os.environ.get("RAY_ADDRESS")):
        address, where = said, f"{said!r}, which RAY_ADDRESS says"
        remedy = "start one with `ray start --head`, or unset RAY_ADDRESS"
        if "/" in said:  # that of a job server, or of Ray's client
            raise ValueError(
                "RAY_ADDRESS must be HOST:PORT, where PORT is that of the cluster's head, often "
                f"6379; got {said!r}: correct it, or unset it to train on this machine"
            )
    host, _, port = address.rpartition(":")
    if port.isdigit():
        _knock(where, remedy, host.strip("[]"), int(port))
    return address


def _knock(where: str, remedy: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), KNOCK_S).close()
    except (OSError, OverflowError) as error:  # OverflowError: no such port
        raise ValueError(f"no Ray cluster at {where} ({error}); {remedy}") from error


def _speaks_grpc(address: str) -> bool:
    """Whether what listens greets as a server of gRPC does, which asks nothing of its head."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return False
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), KNOCK_S) as end:
        end.settimeout(KNOCK_S)
        end.sendall(_GREETING)
        greeting = b""
        while len(greeting) < _KIND_AT + 1 and (more := end.recv(_KIND_AT + 1 - len(greeting))):
            greeting += more
        return greeting[_KIND_AT:] == _SETTINGS
    return False


def _ask(address: str) -> None:
    """Run `ray status` in a process that can be ended; what else it says, `ray.init` will say."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status"]
    try:
        answer = subprocess.run(
            command if address == "auto" else [*command, "--address", address],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=BUSY_S if _speaks_grpc(address) else ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        answer = None
    if answer is not None and answer.returncode and b"uthentication" in answer.stderr:
        raise ValueError(
            f"the Ray cluster at ray.address {address!r} wants another token; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's"
        )
    # Another server that speaks gRPC, Ray's own for clients for example, answers with an RpcError.
    if answer is None or (answer.returncode and b"RpcError" in answer.stderr):
        raise ValueError(
            f"no Ray cluster at ray.address {address!r} (what is there does not answer as the head "
            f"of one does, on port 6379 unless set otherwise); {REMEDY}"
        )
