"""What is taken from a body, and what is refused; hostile ones never get an answer of 500."""

import asyncio
import base64
import ctypes
import gc
import json
import statistics
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from apdist.serving.limits import Admission, Limits, RefusedError
from apdist.serving.uploads import (
    Query,
    body_of,
    check_box,
    check_picture,
    media_type,
    query_of,
)
from tests.pictures import encoded, picture
from tests.serving.conftest import Served
from tests.serving.hostile import OTHERS, hostile, png_bomb

LIMITS = Limits(bytes=100, pixels=10_000)


async def arriving(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def never() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.Event().wait()


def body(parts: AsyncIterator[bytes], limits: Limits = LIMITS, **headers: str) -> bytes:
    admission = Admission(limits)
    with admission.request() as held:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        found = asyncio.run(body_of(parts, named, held, limits))
        assert admission.num_bytes == len(found)
        return found


def test_a_body_is_read_as_far_as_it_may_be_large() -> None:
    assert body(arriving(b"a" * 60, b"b" * 40)) == b"a" * 60 + b"b" * 40
    with pytest.raises(RefusedError, match="at most 100 bytes") as refused:
        body(arriving(b"a" * 60, b"b" * 41))
    assert refused.value.status == 413
    with pytest.raises(RefusedError, match="at most 100 bytes"):
        body(never(), content_length="101")  # before it arrives
    # In base64, with other fields around it.
    assert len(body(arriving(b"a" * 1000), content_type="application/json; charset=utf-8")) == 1000
    with pytest.raises(RefusedError) as slow:
        body(never(), Limits(upload_s=0.01))
    assert slow.value.status == 408
    with pytest.raises(RefusedError) as busy:
        body(arriving(b"a" * 60), Limits(bytes=100, held_bytes=50))
    assert busy.value.status == 503


def test_what_the_address_says_holds_where_json_says_nothing() -> None:
    told = {"k": 3, "where": ["a=1"], "box": "1,2,3,4", "least_score": 0.5}
    query = query_of(b"data", "image/png", told, LIMITS)
    assert query == Query(
        image=b"data", k=3, where=("a=1",), box=(1.0, 2.0, 3.0, 4.0), least_score=0.5
    )
    given = b'{"key": "x", "k": 5, "where": "b=2", "box": null}'
    query = query_of(given, "application/json", told, LIMITS)
    assert (query.key, query.k, query.where, query.box) == ("x", 5, ("b=2",), (1, 2, 3, 4))


def test_a_picture_in_json_is_a_text_in_base64_no_larger_than_one_that_is_sent() -> None:
    def asked(image: object) -> Query:
        return query_of(json.dumps({"image": image}).encode(), "application/json", {}, LIMITS)

    text = base64.b64encode(b"a" * 100).decode()
    assert asked(text).image == asked(f"data:image/png;base64,{text}").image == b"a" * 100
    refusals = {413: base64.b64encode(b"a" * 101).decode(), 400: f"{text[:8]}!{text[8:]}", 422: 3}
    for status, image in refusals.items():
        with pytest.raises(RefusedError) as refused:
            asked(image)
        assert refused.value.status == status


def test_a_query_in_json_is_an_object_with_a_key_that_is_text() -> None:
    for body in (b"[]", b'"key"', b'{"key": 3}', b'{"key": ["a"]}'):
        with pytest.raises(RefusedError, match="expected an object|key: expected a text"):
            query_of(body, "application/json", {}, LIMITS)


def test_a_media_type_is_read_without_its_parameters() -> None:
    assert media_type({"content-type": " Image/PNG ; charset=utf-8"}) == "image/png"
    assert media_type({}) == ""


@pytest.mark.parametrize("kind", ["", "text/html", "multipart/form-data", "application/jsonx"])
def test_other_media_types_are_refused(kind: str) -> None:
    with pytest.raises(RefusedError, match="expected a picture or JSON") as refused:
        query_of(b"data", kind, {}, LIMITS)
    assert refused.value.status == 415


def test_bombs_are_seen_before_they_are_decoded() -> None:
    assert check_picture(png_bomb(100, 100), LIMITS) == (100, 100)
    for size in ((100, 101), (20_000, 20_000), (65_535, 65_535)):
        with pytest.raises(RefusedError, match="at most 10000 pixels") as refused:
            check_picture(png_bomb(*size), LIMITS)
        assert refused.value.status == 413


@pytest.mark.parametrize("data", OTHERS)
def test_other_kinds_of_files_are_not_opened(data: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        check_picture(data, LIMITS)
    assert refused.value.status in (400, 413)


def test_a_box_beside_the_picture_is_refused() -> None:
    for box in ((10, 0, 20, 20), (0, 0, 0.4, 5), (5, 5, 5, 5), (-9, 0, -1, 5)):
        with pytest.raises(RefusedError, match="10 x 20"):
            check_box(box, (10, 20))


def test_a_box_of_a_larger_picture_is_refused_as_evaluate_does() -> None:
    for box in ((0, 0, 10, 20), (-0.4, 0, 10, 20), (0, 0, 10, 22)):
        check_box(box, (10, 20))
    for box in ((0, 0, 500, 500), (-5, -5, 1, 1), (0, 0, 10, 23)):
        with pytest.raises(RefusedError, match="10 x 20, and 90% of the box inside") as refused:
            check_box(box, (10, 20))
        assert refused.value.status == 422


def test_hostile_uploads_are_answered_and_the_server_goes_on(served: Served) -> None:
    statuses = {served.search(hostile(number), "k=1").status for number in range(60)}
    assert {400, 413} <= statuses <= {200, 400, 413}
    assert served.search(encoded(picture(0, 0)), "k=1").status == 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_hostile_uploads_leave_memory_as_it_was(served: Served) -> None:
    def resident_mb() -> float:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what threads freed, and the allocator keeps for others
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / 1e6

    with ThreadPoolExecutor(8) as pool:
        counts: dict[int, int] = {}

        def send(numbers: range) -> None:
            for status in pool.map(lambda n: served.search(hostile(n), "k=1").status, numbers):
                counts[status] = counts.get(status, 0) + 1

        send(range(1000))
        sizes = [resident_mb()]
        for start in range(1000, 11_000, 2000):
            send(range(start, start + 2000))
            sizes.append(resident_mb())
    # A decoding thread may keep what its largest picture took; what leaks does so in every round.
    grown = statistics.median(after - before for before, after in pairwise(sizes))
    print(f"{counts}; from {sizes[0]:.0f} to {sizes[-1]:.0f} MB, in 2,000 {grown:.1f} MB")
    assert set(counts) <= {200, 400, 413}
    assert grown < 8
    assert served.search(encoded(picture(0, 0)), "k=1").status == 200
