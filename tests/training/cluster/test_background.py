"""A call in a thread: its result, its failure, its end."""

import threading

import pytest

from apdist.training.cluster.background import Background


def test_the_result_is_what_the_call_returned() -> None:
    call = Background("test")
    assert not call.is_running()
    call.start(lambda: 7)
    call.wait(30)
    assert (call.is_running(), call.result()) == (False, 7)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_the_call_raised_is_raised_where_the_result_is_asked_for(
    kind: type[BaseException],
) -> None:
    def fail() -> None:
        raise kind("why")

    call = Background("test")
    call.start(fail)
    call.wait(30)
    with pytest.raises(kind, match="why"):
        call.result()


def test_a_block_that_fails_waits_for_the_thread() -> None:
    go = threading.Event()
    call = Background("test")
    with pytest.raises(RuntimeError, match="of the block"), call.ended():  # noqa: PT012
        call.start(lambda: go.wait(30))
        assert call.is_running()
        go.set()
        raise RuntimeError("of the block")
    assert not call.is_running()
