import pytest
from starlette.datastructures import Headers

from apdist.serving.guard import LEAST_TOKEN, Access, is_loopback, token_of
from tests.serving.conftest import Served, serving

TOKEN = "0123456789abcdef"


def refusal(access: Access, path: str = "/v1/index", **headers: str) -> int:
    found = access.refusal(path, Headers({"host": "localhost:80", **headers}))
    return 0 if found is None else found.status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 0),
        ("LOCALHOST", 0),
        ("127.0.0.1:1", 0),
        ("[::1]:8000", 0),
        ("search.team:80", 0),
        ("evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_a_page_of_others_cannot_ask_by_a_name_of_its_own(host: str, status: int) -> None:
    assert refusal(Access(hosts=("Search.team",)), "/", host=host) == status


def test_a_token_opens_what_is_of_the_index() -> None:
    access = Access(host="0.0.0.0", token=TOKEN)
    assert refusal(access, host="any.name") == 401
    assert refusal(access, authorization=f"Bearer {TOKEN}", host="any.name") == 0
    assert refusal(access, authorization=f"bearer  {TOKEN}") == 0
    for wrong in (TOKEN, f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN}x", "Bearer \xff"):
        assert refusal(access, authorization=wrong) == 401
    for path in ("/", "/docs", "/openapi.json", "/health"):
        assert refusal(access, path) == 0
    for path in ("/metrics", "/v1/search", "/v1/images/a", "//v1/index", "/health/", "/nothing"):
        assert refusal(access, path) == 401
    assert TOKEN not in repr(access)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.3", "my.machine", ""])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="needs a token"):
        Access(host=host)
    Access(host=host, token=TOKEN)


def test_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]")))
    assert not any(map(is_loopback, ("localhost.example", "10.0.0.1", "")))


@pytest.mark.parametrize("text", ["", "short", f"two words {TOKEN}", "ä" * LEAST_TOKEN])
def test_a_file_without_a_token_is_refused_and_not_told(text: str) -> None:
    with pytest.raises(ValueError, match="my.token holds no token") as refused:
        token_of(text, "my.token")
    assert not text or text not in str(refused.value)
    assert token_of(f"{TOKEN}\n", "my.token") == TOKEN


def test_every_answer_says_what_browsers_may_do_with_it(served: Served) -> None:
    for path in ("/", "/nothing", "/v1/index"):
        headers = served.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] == "no-store"
    refused = served.ask("OPTIONS", "/v1/search", Origin="https://evil.example")
    assert refused.status == 405
    assert served.ask("GET", "/health", Host="evil.example").code == "unknown_host"


def test_without_the_token_nothing_is_answered(served: Served) -> None:
    from apdist.serving.service import Service

    service = Service(current=served.service.current)
    with serving(service, Access(token=TOKEN)) as guarded:
        refused = guarded.ask("GET", "/v1/index")
        assert (refused.status, refused.code) == (401, "token")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert guarded.ask("GET", "/v1/index", Authorization=f"Bearer {TOKEN}").status == 200
        assert guarded.ask("GET", "/health").status == 200
        figures = guarded.ask("GET", "/metrics", Authorization=f"Bearer {TOKEN}").body
        assert TOKEN.encode() not in figures
