import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import ray

from apdist.training.cluster import joining

Start: TypeAlias = Callable[[Callable[..., Any]], None]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Lets a function stand for `ray.init`."""
    for name in ("is_initialized", "shutdown"):
        monkeypatch.setattr(ray, name, lambda: False)
    monkeypatch.setattr(joining, "resources_of_nodes", lambda: [{"CPU": 8}])
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    yield lambda init: monkeypatch.setattr(ray, "init", init)
    for kind, handler in before.items():
        signal.signal(kind, handler)
