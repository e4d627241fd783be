"""The API over a socket: what is found, and with which status what is not."""

import base64
import io
import json
import re
import socket
from urllib.parse import quote, urlencode

import pytest
from PIL import Image

from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.querying.opening import open_index
from apdist.retrieval.querying.results import told_score
from apdist.serving.guard import Access
from apdist.serving.reload import Current
from apdist.serving.service import Service
from tests.pictures import encoded, picture
from tests.retrieval.querying.conftest import Indexed
from tests.serving.conftest import Served, serving


@pytest.fixture(scope="module")
def opened(indexed: Indexed) -> OpenIndex:
    return open_index(indexed.run, device="cpu")


def test_a_picture_finds_what_python_finds(
    served: Served, indexed: Indexed, opened: OpenIndex
) -> None:
    data = encoded(picture(1, 99))
    expected = opened.search(data, k=7, where="label!=1").to_pylist()
    for answer in (
        served.search(data, "k=7&where=label!%3D1"),
        served.search_json(image=base64.b64encode(data).decode(), k=7, where=["label!=1"]),
    ):
        assert answer.status == 200
        results = answer.json["results"]
        assert [one["key"] for one in results] == [one["key"] for one in expected]
        assert [one["score"] for one in results] == [told_score(one["score"]) for one in expected]
        assert [one["rank"] for one in results] == [*range(1, 8)]
        assert results[0]["label"] == expected[0]["label_name"]
        assert results[0]["entry"]["source"] == expected[0]["source"]
        assert not {"shard", "offset", "size"} & set(results[0]["entry"])


def test_a_key_does_not_find_itself_unless_a_part_of_another_does(
    served: Served, indexed: Indexed, opened: OpenIndex
) -> None:
    key = indexed.catalogue.column("key").to_pylist()[3]
    expected = opened.search_keys([key], k=29).to_pylist()
    found = served.search_json(key=key, k=29).json["results"]
    assert [(one["key"], one["score"]) for one in found] == [
        (one["key"], told_score(one["score"])) for one in expected
    ]
    part = Image.open(io.BytesIO(indexed.encoded(3))).crop((2, 4, 20, 22))
    wanted = opened.search(part, k=5).to_pylist()
    found = served.search_json(key=key, k=4, box=[2, 4, 20, 22]).json["results"]
    assert [one["key"] for one in found] == [o["key"] for o in wanted if o["key"] != key][:4]
    assert served.search(indexed.encoded(3), "k=1&box=2,4,20,22").json["results"][0][
        "score"
    ] == pytest.approx(wanted[0]["score"])
    assert served.search_json(key=key, least_score=1).json["results"] == []


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({}, 422, "invalid"),
        ({"key": "a", "image": "aaaa"}, 422, "invalid"),
        ({"key": 3}, 422, "invalid"),
        ({"key": "a", "kk": 3}, 422, "invalid"),
        ({"key": "a", "k": 1001}, 422, "invalid"),
        ({"key": "a", "k": True}, 422, "invalid"),
        ({"key": "a", "where": [3]}, 422, "invalid"),
        ({"key": "a", "where": ["label ~ 3"]}, 422, "invalid_filter"),
        ({"key": "a", "where": ["labl=3"]}, 422, "invalid_filter"),
        ({"key": "a", "box": [1, 2, 3]}, 422, "invalid"),
        ({"key": "a", "box": [1, 2, 3, "nan"]}, 422, "invalid"),
        ({"key": "a", "least_score": 2}, 422, "invalid"),
        ({"key": "../../etc/passwd"}, 404, "no_such_key"),
        ({"key": "\ud800"}, 404, "no_such_key"),
        ({"key": "a", "where": ["key=\ud800"]}, 422, "invalid_filter"),
        ({"key": "a", "\ud800": 1}, 422, "invalid"),
        ({"image": "no base64!"}, 400, "not_base64"),
        ({"image": "aaaa"}, 400, "not_a_picture"),
    ],
)
def test_what_json_asks_for_wrongly_is_refused(
    served: Served, wanted: dict[str, object], status: int, code: str
) -> None:
    answer = served.search_json(**wanted)
    assert (answer.status, answer.code) == (status, code), answer.body


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b""])
def test_a_body_that_is_no_json_is_refused(served: Served, body: bytes) -> None:
    answer = served.ask("POST", "/v1/search", body, Content_Type="application/json; charset=utf-8")
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("k=0", "invalid"),
        ("k=1001", "invalid"),
        ("k=many", "invalid"),
        ("where=nothing", "invalid_filter"),
        ("where=width%3E3", "invalid_filter"),
        ("box=30,0,40,10", "invalid"),
        ("box=a,b,c,d", "invalid"),
        ("least_score=7", "invalid"),
        ("least-score=0.9", "invalid"),
        ("K=5", "invalid"),
        ("k=1&k=2", "invalid"),
        # Where bytes lie is told to nobody, not by comparing either.
        ("where=shard%3E%2F", "invalid_filter"),
        ("where=offset%3E3", "invalid_filter"),
    ],
)
def test_options_out_of_range_are_refused(served: Served, options: str, code: str) -> None:
    answer = served.search(encoded(picture(0, 0)), options)
    assert (answer.status, answer.code) == (422, code), answer.body


def test_pictures_are_given_by_key_and_asked_for_again_cheaply(
    served: Served, indexed: Indexed
) -> None:
    key = indexed.catalogue.column("key").to_pylist()[5]
    small = served.ask("GET", f"/v1/images?{urlencode({'key': key})}")
    assert small.headers["content-type"] == "image/webp"
    whole = served.ask("GET", f"/v1/images?{urlencode({'key': key, 'size': 'full'})}")
    assert whole.body == indexed.encoded(5)
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    at = served.ask("GET", f"/v1/images/{quote(key)}", If_None_Match=small.headers["etag"])
    assert (at.status, at.body) == (304, b"")
    assert served.ask("GET", f"/v1/images/{quote(key)}").body == small.body
    assert served.ask("GET", "/v1/images?key=a&size=huge").status == 422
    for path in ("/v1/images/../../pyproject.toml", "/v1/images/%2e%2e%2fpyproject.toml"):
        assert served.ask("GET", path).code == "no_such_key"


def test_what_is_served_is_told(served: Served) -> None:
    about = served.ask("GET", "/v1/index").json
    assert (about["images"], about["num_labels"], about["metric"]) == (30, 5, "cosine")
    assert about["labels"] == [f"class {label}" for label in range(5)]
    assert about["columns"] == ["key", "source", "label", "label_name"]
    health = served.ask("GET", "/health").json
    assert health == {
        "status": "ready",
        "index_version": about["index_version"],
        "reload_error": "",
    }
    figures = served.ask("GET", "/metrics").body.decode()
    assert "apdist_index_images 30.0" in figures
    assert 'apdist_requests_total{route="/v1/index",status="200"}' in figures
    assert "passwd" not in figures


def test_pages_are_whole_without_a_network(served: Served) -> None:
    described = served.ask("GET", "/openapi.json").json
    assert set(described["paths"]) == {
        "/v1/search", "/v1/images", "/v1/images/{key}", "/v1/index", "/health", "/metrics",
    }  # fmt: skip
    docs = served.ask("GET", "/docs").body.decode()
    assert all(path in docs for path in described["paths"])
    for path in ("/", "/docs"):
        page = served.ask("GET", path)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        outside = set(re.findall(r"https?://[^\s'\"]+", page.body.decode()))
        assert {one.split("/")[2] for one in outside} <= {"HOST:PORT"}
        assert json.dumps(page.headers).count("unsafe") == 0


def test_the_description_says_which_routes_need_a_token(served: Served, indexed: Indexed) -> None:
    assert "security" not in served.ask("GET", "/openapi.json").json
    with serving(Service(current=Current([indexed.run])), Access(token="t" * 32)) as guarded:
        told = guarded.ask("GET", "/openapi.json").json
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert told["security"] == [{"token": []}]
    for path, routes in told["paths"].items():
        for route in routes.values():
            assert ("security" in route) == (path == "/health")
            assert {"421"} | ({"401"} if path != "/health" else set()) <= set(route["responses"])


def test_other_paths_and_methods_get_errors_in_json(served: Served) -> None:
    assert served.ask("GET", "/nothing").code == "no_such_page"
    assert served.ask("GET", "/v1/search").code == "method"
    assert served.ask("GET", "/v1/index?foo=1").code == "invalid"
    assert served.ask("GET", "/?foo=1").status == 200


def test_conditions_are_on_what_is_told(served: Served) -> None:
    refused = served.search(encoded(picture(0, 0)), "where=nope%3D1").json["error"]["message"]
    columns = served.ask("GET", "/v1/index").json["columns"]
    assert refused.endswith(f"it has {', '.join(columns)}")
    assert not {"shard", "offset", "size"} & set(columns)


def test_head_is_answered_as_get_without_a_body(served: Served) -> None:
    for path in ("/", "/health", "/v1/index", "/nothing"):
        head, whole = served.ask("HEAD", path), served.ask("GET", path)
        assert (head.status, head.body) == (whole.status, b"")
        assert head.headers["content-length"] == str(len(whole.body))
    assert served.ask("HEAD", "/v1/search").status == 405


def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing_behind(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> float:
        figures = served.ask("GET", "/metrics").body.decode()
        found = re.search(r'requests_total{route="/v1/search",status="400"} (.+)', figures)
        return float(found[1]) if found else 0

    before = refused()
    host, _, port = served.address[len("http://") : -1].partition(":")
    with socket.create_connection((host, int(port))) as sock:
        head = "Host: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n"
        sock.sendall(f"POST /v1/search HTTP/1.1\r\n{head}\r\nabc".encode())
    while refused() == before:
        pass  # until the server has met the end of the connection
    assert served.service.admission.num_bytes == served.service.admission.num_requests == 0
    assert not caplog.records
