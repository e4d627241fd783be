import threading

import pytest

from apdist.data.images import MAX_PIXELS
from apdist.serving.limits import Admission, Budget, Limits, RefusedError


def test_searches_and_their_bytes_are_counted_to_their_end() -> None:
    admission = Admission(Limits(requests=2, held_bytes=100))
    with admission.request() as first, admission.request() as second:
        first.take(60)
        second.take(40)
        with pytest.raises(RefusedError, match="memory") as refused:
            second.take(1)
        assert refused.value.headers == {"Retry-After": "1"}
        with pytest.raises(RefusedError, match="2 searches are under way"), admission.request():
            pass
        assert (admission.num_requests, admission.num_bytes) == (2, 100)
    assert (admission.num_requests, admission.num_bytes) == (0, 0)


@pytest.mark.parametrize(
    "wrong", [{"bytes": 0}, {"pixels": MAX_PIXELS + 1}, {"requests": -1}, {"k": 0}]
)
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"limits.{next(iter(wrong))} must be at"):
        Limits(**wrong)


def test_who_comes_when_too_little_is_left_waits() -> None:
    budget, done = Budget(10), list[str]()
    waits = threading.Event()

    def large() -> None:
        waits.set()
        with budget.held(8):
            done.append("large")

    thread = threading.Thread(target=large)
    with budget.held(3):
        thread.start()
        waits.wait(10)
        with budget.held(7):
            done.append("small")
    thread.join(10)
    assert done == ["small", "large"]
