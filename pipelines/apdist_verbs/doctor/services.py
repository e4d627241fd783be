"""What a training talks to: Ray, object storage, MLflow."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from apdist.config import RayConfig
from apdist.data import storage
from apdist.data.storage.connections import pool_for
from apdist.training.cluster.address import refuse_if_unreachable
from apdist.training.cluster.own_ray import refuse_without_place, sessions_root
from apdist.training.cluster.room import address_of
from apdist.training.tracking.database import refuse_unusable, sqlite_path
from apdist_verbs.doctor.finding import State

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

ANSWER_S = 10.0
SIGNED_S = 15 * 60
"""S3 refuses signatures that are made by a clock further off."""
NOTED_S = 60

Found = tuple[State, str, str]


def ray(address: str) -> Found:
    """Whether a cluster answers, with the right token."""
    config = RayConfig(address=address)
    where = address_of(config)
    if where == "local":
        refuse_without_place(sessions_root())
        return "good", "a training starts its own on this machine", ""
    refuse_if_unreachable(where)
    return "good", f"a cluster answers at {where}", ""


def stores(uri: str) -> Found:
    """Whether files can be written there, read and removed."""
    root = storage.absolute(uri)
    if storage.is_read_only(root):
        raise ValueError(
            f"{storage.shown(uri)} can only be read; give a folder or an s3:// prefix for runs"
        )
    name, data = storage.join(root, f".apdist-doctor-{uuid.uuid4().hex}"), os.urandom(64)
    there = storage.local_path(root)
    made = there is not None and not there.exists()
    try:
        storage.write_bytes(name, data)
        if storage.read_bytes(name) != data:
            raise ValueError(f"{storage.shown(uri)}: another content is read than was written")
    finally:
        storage.remove(name)
        if made and there is not None and there.is_dir():
            there.rmdir()
    return "good", f"{storage.shown(uri)}: written, read, removed", ""


def shards(uri: str) -> Found:
    """Whether a catalogue is there, and what it holds."""
    if not uri:
        return "to know", "not looked at", "to look at shards: apdist doctor --shards SHARDS"
    from apdist.data.catalogue.catalogue import read_catalogue

    catalogue = read_catalogue(storage.absolute(uri))
    splits = ", ".join(f"{len(catalogue.select(name))} {name}" for name in catalogue.splits())
    return "good", f"{storage.shown(uri)}: {len(catalogue)} images ({splits})", ""


def clock(*uris: str) -> Found:
    """This machine's clock against that of a store that says the time."""
    asked = next(iter(_servers(uris)), "")
    if not asked:
        return "to know", "no store to compare it with", ""
    import urllib3

    try:
        answer = _asked("HEAD", asked)
        said = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        return "to know", f"{asked} does not tell the time ({type(error).__name__})", ""
    off = time() - said.timestamp()
    found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} {asked}"
    if abs(off) > SIGNED_S:
        return "wrong", found, "S3 refuses requests signed at another time; set the clock (NTP)"
    return ("to know", found, "set the clock (NTP)") if abs(off) > NOTED_S else ("good", found, "")


def _servers(uris: Iterable[str]) -> Iterable[str]:
    """The addresses of the servers behind ``uris``, without anything else in them."""
    for uri in uris:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https"):
            yield f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        elif parts.scheme == "s3":
            from apdist.data.storage.s3_clients import clients_now

            yield str(clients_now().client(ANSWER_S).meta.endpoint_url)


def _asked(method: str, url: str) -> BaseHTTPResponse:
    """The answer to one request, as the stores would send it."""
    return pool_for(url).request(method, url, timeout=ANSWER_S, retries=False, redirect=False)


def tracking(uri: str) -> Found:
    """Whether MLflow can be written to."""
    refuse_unusable(uri)
    if (path := sqlite_path(uri)) is not None:
        from apdist_verbs.start.checks import refuse_unwritable

        refuse_unwritable("tracking.uri", path.absolute().parent)
        return "good", f"{path}{'' if path.exists() else ' will be made'}", ""
    import urllib3

    shown = storage.shown(uri)
    try:
        status = _asked("GET", uri.rstrip("/") + "/health").status
    except urllib3.exceptions.HTTPError as error:
        raise ValueError(
            f"nobody answers at {shown} ({type(error).__name__}); start one with `mlflow server`, "
            "or correct --tracking.uri"
        ) from error
    if status in (401, 403):
        return (
            "wrong",
            f"{shown} wants another name or password (status {status})",
            ("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
        )
    if status != 200:
        return "wrong", f"{shown} answers with status {status}", "look at the server's log"
    return "good", f"{shown} answers", ""
