"""Searches in batches are those one by one."""

import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch

from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.querying.opening import open_index
from apdist.retrieval.several import SeveralIndexes
from apdist.serving.decoding import DecodingRoom
from apdist.serving.limits import Limits, RefusedError
from apdist.serving.metrics import Metrics
from apdist.serving.searching import Searcher, SearchJob, described, searched
from apdist.serving.snapshot import Snapshot
from apdist.serving.uploads import Query
from tests.pictures import encoded, picture
from tests.retrieval.querying.conftest import Indexed
from tests.serving.conftest import Served, asked_for


@pytest.fixture(scope="module")
def snapshot(indexed: Indexed) -> Snapshot:
    return Snapshot(open_index(indexed.run, device="cpu"), "v")


@pytest.fixture
def searcher() -> Searcher:
    return Searcher(Limits(), Metrics(), DecodingRoom(10**6), most=32, wait_s=0)


def test_a_batch_of_all_kinds_finds_what_each_finds_alone(
    searcher: Searcher, snapshot: Snapshot, indexed: Indexed
) -> None:
    keys = indexed.catalogue.column("key").to_pylist()
    queries = [
        *(Query(image=encoded(picture(n % 5, 50 + n)), k=30) for n in range(6)),
        *(Query(image=encoded(picture(n, 70)), k=3, where=("label!=1",)) for n in range(3)),
        Query(key=keys[4], k=30),
        Query(key=keys[8], k=5),
        Query(image=encoded(picture(2, 60)), k=5, least_score=0.97),
        Query(key=keys[9], k=5, box=(0, 0, 12, 12)),
        Query(image=encoded(picture(2, 60)), k=5, where=("label=77",)),
        Query(image=encoded(picture(1, 61)), k=3),
    ]
    jobs = [searcher.job(snapshot, query) for query in queries]
    together = searcher._work(jobs)
    alone = [searcher._work([job])[0] for job in jobs]
    for one, other in zip(together, alone, strict=True):
        assert not isinstance(one, Exception)
        assert not isinstance(other, Exception)
        assert [found["key"] for found in one] == [found["key"] for found in other]
        scores = [[found["score"] for found in found_by] for found_by in (one, other)]
        np.testing.assert_allclose(*scores, rtol=0, atol=2e-6)
    assert [len(found) for found in together if not isinstance(found, Exception)] == [
        *[30] * 6, 3, 3, 3, 29, 5, len(together[11]), 5, 0, 3,  # type: ignore[arg-type]
    ]  # fmt: skip
    searcher.close()


def test_the_search_itself_is_the_same_to_the_last_bit_however_it_is_batched(
    searcher: Searcher, snapshot: Snapshot, indexed: Indexed
) -> None:
    keys = indexed.catalogue.column("key").to_pylist()
    jobs = [searcher.job(snapshot, Query(key=key, k=10)) for key in keys]
    vectors = [described([job])[0] for job in jobs]

    def found(numbers: range) -> list[list[tuple[str, float]]]:
        some = searched([jobs[n] for n in numbers], torch.stack([vectors[n] for n in numbers]))
        return [[(one["key"], one["score"]) for one in results] for results in some]

    together = found(range(len(jobs)))
    assert together == [found(range(n, n + 1))[0] for n in range(len(jobs))]
    searcher.close()


def test_images_of_several_indexes_are_found_by_key(
    searcher: Searcher, snapshot: Snapshot, indexed: Indexed
) -> None:
    index = snapshot.opened.index
    both = SeveralIndexes({"a": index, "b": index})  # type: ignore[dict-item]
    several = Snapshot(OpenIndex(both, snapshot.opened.model), "v")
    assert len(several) == 60
    own = several.row(indexed.catalogue.column("key").to_pylist()[7])
    assert own == 7
    # The second index holds the image again, which is the nearest then.
    for row, other in ((7, "b"), (37, "a")):
        job = SearchJob(snapshot=several, query=Query(k=1), image=None, own=row, mask=None)
        found = searcher._work([job])[0]
        assert not isinstance(found, Exception)
        assert (found[0]["index"], found[0]["score"]) == (other, pytest.approx(1))
    # In one batch each finds in the index that it began with.
    data = encoded(picture(0, 9))
    jobs = [searcher.job(one, Query(image=data, k=40)) for one in (snapshot, several)]
    assert [len(found) for found in searcher._work(jobs)] == [30, 40]  # type: ignore[arg-type]
    searcher.close()


def test_a_search_that_fails_fails_alone(
    searcher: Searcher, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = searcher.job(snapshot, Query(image=encoded(picture(0, 0)), k=2))
    bad = SearchJob(snapshot=snapshot, query=Query(k=-1), image=good.image, own=-2, mask=None)
    found = searcher._work([bad, good])
    assert isinstance(found[0], ValueError)
    assert len(found[1]) == 2  # type: ignore[arg-type]
    searcher.close()


def test_pictures_that_are_gone_are_told_without_their_place(
    searcher: Searcher, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(entry: dict[str, object]) -> bytes:
        raise FileNotFoundError(f"/secret/{entry['shard']}")

    monkeypatch.setattr("apdist.serving.searching.image_of", gone)
    key = snapshot.entry(0)["key"]
    with pytest.raises(RefusedError, match="cannot be read any more") as refused:
        searcher.job(snapshot, Query(key=key, box=(0, 0, 9, 9)))
    assert "secret" not in refused.value.message
    assert refused.value.status == 404
    searcher.close()


def test_an_upload_is_decoded_where_there_is_room(
    searcher: Searcher, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_for(searcher._room, monkeypatch)
    data = encoded(picture(0, 0, side=24))
    searcher.job(snapshot, Query(image=data))
    with pytest.raises(RefusedError, match="damaged|truncated|decode"):
        searcher.job(snapshot, Query(image=data[: len(data) // 2]))
    assert asked == [24 * 24, 24 * 24]
    searcher.close()


def test_an_entry_without_a_place_has_no_picture(
    searcher: Searcher, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {**snapshot.entry(0), "shard": "", "source": None}
    monkeypatch.setattr(snapshot, "entry", lambda _: entry)
    with pytest.raises(RefusedError, match="does not say where the picture of '.*' lies"):
        searcher.job(snapshot, Query(key=entry["key"], box=(0, 0, 9, 9)))
    searcher.close()


def test_more_searches_than_may_be_are_told_to_come_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches are held in their batch until as many as may be are under way."""
    go_on = threading.Event()
    work = served.service.searcher._work

    def held(jobs: list[SearchJob]) -> object:
        go_on.wait(30)
        return work(jobs)

    most = served.service.limits.requests
    monkeypatch.setattr(served.service.searcher.batcher, "_work", held)
    monkeypatch.setattr(served.service.admission, "num_requests", most - 2)
    data = encoded(picture(0, 0))
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(served.search, data, "k=1") for _ in range(3)]
        first, _ = wait(answers, return_when=FIRST_COMPLETED)
        refused = first.pop().result()
        assert (refused.status, refused.code) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert served.ask("GET", "/health").status == 200
        go_on.set()
        assert sorted(answer.result().status for answer in answers) == [200, 200, 503]
    assert served.service.admission.num_requests == most - 2
