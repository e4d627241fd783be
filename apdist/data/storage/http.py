"""One GET request for a part of a file, and what its answer says about the file."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urljoin, urlsplit

import urllib3

from apdist.addresses import shown
from apdist.data.storage.connections import pool_for
from apdist.data.storage.errors import (
    StorageError,
    TransientError,
    broken,
    certificate_refused,
    is_transient,
    refusal,
    untrusted,
)
from apdist.data.storage.retries import Attempts
from apdist.data.storage.transfers import count

MAX_REDIRECTS = 5
FIRST_BYTES = 64 << 10
ERROR_BYTES = 16 << 10
"""The beginning of an error's body that is read for S3's code."""


@dataclass
class Part:
    """The bytes from ``start`` to ``end`` of a file, about to arrive."""

    response: urllib3.BaseHTTPResponse
    uri: str
    start: int
    end: int
    """One past the last byte."""
    file_bytes: int
    """Size of the whole file."""
    etag: str
    """Without quotes; empty where the server gives none."""
    begun: bytes
    """The first bytes, already here."""

    def read(self, limit: int, attempts: Attempts) -> bytes:
        """What has arrived, at most ``limit`` bytes, at least one; empty at the end.

        Raises:
            TransientError: the connection broke, went silent, or the deadline is over.
        """
        attempts.check_deadline()
        if self.begun:
            block, self.begun = self.begun[:limit], self.begun[limit:]
            return block
        if attempts.left_s() < attempts.policy.silence_timeout_s and not self.response.closed:
            self._shorten_timeout(attempts.left_s())
        with _network(self.uri):
            # One recv: read() would wait for all of `limit` from a server that trickles.
            block = self.response.read1(limit, decode_content=False)
        count(bytes_read=len(block))
        return block

    def release(self) -> None:
        """Give the connection back for the next request, after the last byte."""
        self.response.drain_conn()

    def drop(self) -> None:
        """Close the connection: more is to come on it, or it is broken."""
        self.response.close()

    def _shorten_timeout(self, timeout_s: float) -> None:
        from botocore.response import StreamingBody

        StreamingBody(self.response, None).set_socket_timeout(timeout_s)


def request_part(
    uri: str, url: str, start: int, end: int, headers: Mapping[str, str], attempts: Attempts
) -> Part:
    """Ask for the bytes from ``start`` to ``end``.

    Args:
        uri: the file, for messages.
        url: where it is asked for.
        start: first byte.
        end: one past the last byte; -1 for the rest of the file.
        headers: what the request carries; `range_headers` makes the first of them.
        attempts: the operation this try belongs to.

    Raises:
        StorageError: the server refuses, or serves something else than was asked for.
        TransientError: another try may succeed.
    """
    response = _get(uri, url, headers, attempts)
    try:
        if response.status not in (200, 206):
            raise _failure(uri, response)
        with _network(uri):
            begun: bytes = response.read1(FIRST_BYTES, decode_content=False)
        if not begun and response.headers.get("Content-Length") != "0":
            # http.client takes headers that are cut off for complete ones: believe none of them.
            raise TransientError("connection closed before the first byte")
        count(bytes_read=len(begun))
        return _part(uri, response, start, end, begun)
    except BaseException:
        response.close()
        raise


def range_headers(start: int, end: int) -> dict[str, str]:
    """The headers that ask for these bytes as they are stored."""
    headers = {"Accept-Encoding": "identity"}
    if start or end >= 0:
        headers["Range"] = f"bytes={start}-{end - 1 if end >= 0 else ''}"
    return headers


def _get(
    uri: str, url: str, headers: Mapping[str, str], attempts: Attempts
) -> urllib3.BaseHTTPResponse:
    for _ in range(MAX_REDIRECTS):
        policy, left_s = attempts.policy, attempts.left_s()
        timeout = urllib3.Timeout(
            connect=min(policy.connect_timeout_s, left_s),
            read=min(policy.silence_timeout_s, left_s),
        )
        count(requests=1)
        with _network(uri):
            response = pool_for(url).request(
                "GET",
                url,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        location = response.get_redirect_location()
        if not location or "Authorization" in headers:  # a signature holds for one host only
            return response
        response.close()
        target = urljoin(url, location)
        if urlsplit(target).scheme not in ("https", urlsplit(url).scheme):
            raise StorageError(f"{shown(uri)}: the server redirects from https to {shown(target)}")
        url = target
    raise StorageError(f"{shown(uri)}: redirected more than {MAX_REDIRECTS} times")


def _failure(uri: str, response: urllib3.BaseHTTPResponse) -> Exception:
    with _network(uri):
        body = response.read(ERROR_BYTES, decode_content=False)
    if not body and "Content-Length" not in response.headers:
        return TransientError(f"HTTP {response.status}, connection closed before the reason")
    found = re.search(rb"<Code>(\w+)</Code>", body)
    code = found[1].decode() if found else ""
    if is_transient(response.status, code):
        return TransientError(f"HTTP {response.status} {code}".rstrip())
    return refusal(uri, response.status, code)


def _part(uri: str, response: urllib3.BaseHTTPResponse, start: int, end: int, begun: bytes) -> Part:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding not in ("", "identity"):
        raise StorageError(
            f"{shown(uri)}: the server compresses on the way ({encoding}), so that byte offsets "
            "do not hold; turn that off for this path"
        )
    etag = response.headers.get("ETag", "").removeprefix("W/").strip('"')
    if response.status == 200:
        if start > 0:
            raise StorageError(
                f"{shown(uri)}: the server ignores Range requests; serve the files from one that "
                "answers them (nginx, Apache, Caddy, any object storage)"
            )
        length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            raise StorageError(f"{shown(uri)}: the server does not say how long the file is")
        return Part(response, uri, 0, int(length), int(length), etag, begun)
    given = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", given)
    if not found or int(found[1]) != start or (0 <= end < int(found[2]) + 1):
        raise StorageError(
            f"{shown(uri)}: asked for bytes {start} to {end}, the server sent {given!r}"
        )
    return Part(response, uri, start, int(found[2]) + 1, int(found[3]), etag, begun)


@contextmanager
def _network(uri: str) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.LocationValueError:
        raise StorageError(f"{shown(uri)} is no valid address") from None
    except (urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
        if isinstance(error, StorageError):
            raise
        if certificate_refused(error):
            raise untrusted(uri) from error
        raise broken(error) from error
