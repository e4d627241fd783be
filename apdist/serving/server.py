"""An address that is listened on, and the server behind it until it is told to stop."""

from __future__ import annotations

import errno
import logging
import socket
import warnings
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

GRACE_S = 30
"""For requests under way when the server is told to stop."""
KEEP_ALIVE_S = 75
"""Longer than proxies keep a connection: they would meet one that was just closed."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, and nobody can connect to yet.

    Raises:
        ValueError: another has it, or it is none of this machine.
    """
    name = host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(
            f"--host {host} is no address of this machine ({error.strerror}); give 127.0.0.1, or "
            "0.0.0.0 for all it has"
        ) from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        # To be told now that another listens, and not after a model was loaded.
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is in use; give another --port (0 for any that is free), "
                "or stop what listens there"
            ) from error
        if error.errno == errno.EACCES:
            raise ValueError(f"port {port} is for administrators; give one from 1024 on") from error
        raise ValueError(
            f"--host {host} is no address of this machine ({error.strerror}); give 127.0.0.1, or "
            "0.0.0.0 for all it has"
        ) from error
    return sock


def address_of(sock: socket.socket) -> str:
    """Where a person on this machine finds the server."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  it is compared, not listened on
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def server_of(app: ASGIApp) -> uvicorn.Server:
    """The server of an application."""
    # It warns of each request that is none, which anybody can send as often as they like.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def serve(app: ASGIApp, sock: socket.socket, started: Callable[[], None]) -> None:
    """Answer until SIGINT or SIGTERM, then finish what is under way."""
    # In threads, what is ignored for a part of the work is so for all of it or for none.
    warnings.filterwarnings("ignore", module="PIL")
    server = server_of(app)
    started()
    try:
        server.run(sockets=[sock])
    except KeyboardInterrupt:
        # Uvicorn raises the signal that stopped it once more when all is done.
        if not server.should_exit:
            raise
