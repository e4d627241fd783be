"""An index that changes under requests: each is answered, from the old one or the new one."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apdist.retrieval.index import build_index, load_index, save_index
from apdist.serving.reload import Current
from apdist.serving.searching import Searcher
from apdist.serving.service import Service
from tests.pictures import encoded, picture
from tests.retrieval.querying.conftest import Indexed
from tests.serving.conftest import serving


@pytest.fixture
def folder(indexed: Indexed, tmp_path: Path) -> str:
    """A run of its own with the index in it."""
    shutil.copytree(indexed.run, tmp_path / "run")
    return str(tmp_path / "run")


def shorten(run: str, count: int) -> None:
    """Replace the index by one of its first images."""
    index = load_index(f"{run}/index", model_id=None)
    entries = index.entries.slice(0, count)
    short = build_index(
        index.descriptors[:count].clone(),
        entries,
        kind="exact",
        model_id=index.settings["model_id"],
    )
    save_index(short, f"{run}/index", overwrite=True)


def test_a_changed_index_is_read_and_one_that_has_not_changed_is_not(folder: str) -> None:
    told: list[bool] = []
    current = Current([folder], told=told.append)
    before = current.snapshot
    assert not current.look()
    assert current.snapshot is before
    shorten(folder, 7)
    assert current.look()
    assert (len(current.snapshot), len(before), told) == (7, 30, [True])
    assert current.snapshot.version != before.version


def test_an_index_that_is_damaged_is_not_taken_and_asked_for_once(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    current = Current([folder], told=told.append)
    before = current.snapshot
    shorten(folder, 7)
    file = next(Path(folder, "index").rglob("entries.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert not current.look()
    assert not current.look()
    assert current.snapshot is before
    assert "damaged" in current.error
    assert told == [False]
    assert [record.message for record in caplog.records if "served on" in record.message]
    file.write_bytes(whole)
    shorten(folder, 5)
    assert current.look()
    assert (len(current.snapshot), current.error, told) == (5, "", [False, True])


def test_an_index_of_another_model_is_refused_by_name(folder: str) -> None:
    current = Current([folder])
    index = load_index(f"{folder}/index", model_id=None)
    other = build_index(
        index.descriptors.clone(),
        index.entries,
        kind="exact",
        model_id="x",
    )
    save_index(other, f"{folder}/index", overwrite=True)
    assert not current.look()
    assert "was built with model x" in current.error
    with pytest.raises(ValueError, match="was built with model x"):
        Current([folder])


def test_no_request_is_dropped_while_the_index_is_replaced(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search is held between decoding and its batch, the index is swapped meanwhile."""
    service = Service(current=Current([folder]))
    decoded, go_on = threading.Event(), threading.Event()
    make = Searcher.job

    def held(self: Searcher, snapshot: object, query: object) -> object:
        job = make(self, snapshot, query)  # type: ignore[arg-type]
        if not decoded.is_set():
            decoded.set()
            go_on.wait(30)
        return job

    monkeypatch.setattr(Searcher, "job", held)
    data = encoded(picture(1, 99))
    with serving(service) as served, ThreadPoolExecutor(4) as pool:
        early = pool.submit(served.search, data, "k=30")
        assert decoded.wait(30)
        shorten(folder, 7)
        assert service.current.look()
        late = [pool.submit(served.search, data, "k=30") for _ in range(3)]
        assert [len(one.result().json["results"]) for one in late] == [7, 7, 7]
        go_on.set()
        assert len(early.result().json["results"]) == 30
        assert early.result().json["index_version"] != late[0].result().json["index_version"]
        assert served.ask("GET", "/health").json["status"] == "ready"
