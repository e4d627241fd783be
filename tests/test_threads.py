"""Parts of a work on the threads of torch, or on our own where those are not at hand."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator

import pytest
import torch

import apdist.threads
from apdist.threads import on_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["torch's", "own"])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "own":
        monkeypatch.setattr(apdist.threads, "_openmp", lambda: None)
    elif apdist.threads._openmp() is None:
        pytest.skip("torch has another OpenMP here")
    return str(request.param)


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize("num_parts", [0, 1, 2, 3, 50])
def test_every_part_is_done_once_and_the_results_are_in_order(num_parts: int) -> None:
    done: list[int] = []

    def square(number: int) -> int:
        done.append(number)
        return number * number

    assert on_threads(square, range(num_parts)) == [number**2 for number in range(num_parts)]
    assert sorted(done) == list(range(num_parts))


@pytest.mark.usefixtures("team")
def test_parts_are_done_at_the_same_time() -> None:
    all_here = threading.Barrier(3)
    on_threads(lambda _: all_here.wait(timeout=60), range(3))


def test_the_threads_are_those_that_torch_multiplies_on(team: str) -> None:
    def threads_of_two_calls() -> tuple[set[int], set[int]]:
        all_here = threading.Barrier(3)

        def who(_: int) -> int:
            all_here.wait(timeout=60)
            return threading.get_native_id()

        return set(on_threads(who, range(3))), set(on_threads(who, range(3)))

    torch.ones(1_000_000) + 1  # on all of torch's threads
    there = set(map(int, os.listdir("/proc/self/task"))) if team == "torch's" else set()
    first, second = threads_of_two_calls()
    assert first == second
    assert len(first) == 3
    own = {thread.native_id for thread in threading.enumerate() if "apdist" in thread.name}
    assert len(first & own) == (2 if team == "own" else 0)
    assert team == "own" or first <= there


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_what_a_part_raises_reaches_the_caller_when_nobody_works_any_more(
    failure: BaseException,
) -> None:
    at_work: set[int] = set()

    def work(number: int) -> None:
        at_work.add(number)
        if number == 1:
            raise failure
        time.sleep(0.05)
        at_work.discard(number)

    with pytest.raises(type(failure)):
        on_threads(work, range(200))
    assert at_work == {1}
    assert on_threads(str, [1, 2, 3]) == ["1", "2", "3"]


def test_a_fork_has_threads_of_its_own() -> None:
    torch.randn(300, 300) @ torch.randn(300, 300)
    assert on_threads(str, range(6)) == list("012345")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(on_threads, (str, range(6))).get(timeout=60)
    assert found == list("012345")
