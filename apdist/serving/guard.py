"""Who may ask: the check of host and token before anything else, and what every answer carries."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apdist.config import suggestion
from apdist.serving.limits import RefusedError
from apdist.serving.metrics import Metrics

logger = logging.getLogger(__name__)

OPEN = ("/", "/docs", "/openapi.json", "/health")
"""What needs no token: nothing of the index is in it."""
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
LEAST_TOKEN = 16
"""Characters."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of all but pages, which have one of their own."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask.

    Raises:
        ValueError: others than this machine can reach the host, and there is no token.
    """

    host: str = "127.0.0.1"
    """That the server listens on."""
    token: str = field(default="", repr=False)
    """Empty: none is asked for."""
    hosts: tuple[str, ...] = ()
    """Further names by which the server is asked, as that of a proxy before it."""

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise ValueError(
                f"others can reach --host {self.host}, which needs a token: --token-file FILE, "
                "with one made by `openssl rand -hex 32 > FILE`; or leave --host 127.0.0.1"
            )

    def refusal(self, path: str, headers: Headers) -> RefusedError | None:
        """Why a request is not answered."""
        host = _name(headers.get("host", ""))
        # A page of others whose name was bound to this machine's address would be answered. Where
        # a token is asked for that page has none, and names of a network are not known here.
        known = (*LOCAL_HOSTS, *map(str.lower, self.hosts))
        if is_loopback(self.host) and host not in known:
            hint = suggestion(host, list(known))
            return RefusedError(
                421,
                "unknown_host",
                f"the server is not known as {host[:100]!r}{hint}; ask it as localhost, or start "
                "it with --allowed-host NAME",
            )
        if not self.token or path in OPEN:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.lower() == "bearer" and is_right:
            return None
        return RefusedError(
            401,
            "token",
            "expected the server's token, as `Authorization: Bearer TOKEN`, got "
            f"{'another one' if given else 'none'}",
        )


class Guard:
    """An application that is asked through its guard.

    Args:
        app: the application.
        access: who may ask it.
        metrics: that count requests.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _completed(message["headers"])}
            await send(message)

        if scope["method"] == "HEAD":  # the server sends no body in answer to it
            scope = {**scope, "method": "GET"}
        refusal = self._access.refusal(scope["path"], Headers(scope=scope))
        try:
            if refusal is None:
                await self._app(scope, receive, with_headers)
            else:
                await refuse(refusal, with_headers)
        finally:
            # Paths that are no route are others' words: they would be figures without end.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(str(route), status, time.perf_counter() - start)


async def refuse(refusal: RefusedError, send: Send) -> None:
    """Send the answer of a refusal."""
    body = json.dumps(refusal.content, ensure_ascii=False).encode()
    named = {"content-type": "application/json", "content-length": str(len(body))}
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in {**named, **refusal.headers}.items()
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def token_of(text: str, name: str) -> str:
    """The token that the file ``name`` holds.

    Raises:
        ValueError: it is none; the message does not tell it.
    """
    token = text.strip()
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{name} holds no token: expected {LEAST_TOKEN} characters or more of ASCII without "
            f"spaces, got {len(token)}; make one with: openssl rand -hex 32 > {name}"
        )
    return token


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _completed(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there: list[tuple[bytes, bytes]] = list(headers)
    names = {name.lower() for name, _ in there}
    more: dict[str, Any] = {**_HEADERS, "Content-Security-Policy": _POLICY}
    more["Cache-Control"] = "no-store"
    return there + [
        (name.lower().encode(), value.encode())
        for name, value in more.items()
        if name.lower().encode() not in names
    ]
