"""A server in a thread of this process, on a port that is free."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from apdist.serving.app import application
from apdist.serving.decoding import DecodingRoom
from apdist.serving.guard import Access
from apdist.serving.reload import Current
from apdist.serving.server import address_of, bound, server_of
from apdist.serving.service import Service
from tests.retrieval.querying.conftest import Indexed, indexed

__all__ = ["indexed"]


def asked_for(room: DecodingRoom, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of what is decoded in ``room`` from now on."""
    asked: list[int] = []
    held = room.held

    def noted(pixels: int) -> AbstractContextManager[None]:
        asked.append(pixels)
        return held(pixels)

    monkeypatch.setattr(room, "held", noted)
    return asked


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        return self.json["error"]["code"]


@dataclass(frozen=True)
class Served:
    service: Service
    address: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**self.headers, **named})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def search(self, picture: bytes, options: str = "", **headers: str) -> Answer:
        return self.ask(
            "POST", f"/v1/search?{options}", picture, **{"Content-Type": "image/png", **headers}
        )

    def search_json(self, **wanted: Any) -> Answer:
        return self.ask(
            "POST", "/v1/search", json.dumps(wanted).encode(), Content_Type="application/json"
        )


@contextmanager
def serving(service: Service, access: Access | None = None) -> Iterator[Served]:
    """The service, asked over a socket."""
    access = access or Access()
    with bound("127.0.0.1", 0) as sock:
        server = server_of(application(service, access))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield Served(service, address_of(sock))
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def served(indexed: Indexed) -> Iterator[Served]:
    """An index of 30 images in 5 classes."""
    with serving(Service(current=Current([indexed.run]))) as served:
        yield served
