import multiprocessing
import threading
import time

import pytest

from apdist.data.storage.process_cache import cached_per_process


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


def test_threads_that_come_together_get_the_same_thing() -> None:
    made: list[str] = []

    @cached_per_process
    def make(name: str) -> Thing:
        made.append(name)
        time.sleep(0.01)
        return Thing(name)

    got: list[Thing] = []
    threads = [threading.Thread(target=lambda: got.append(make("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    assert len({id(thing) for thing in got}) == 1
    assert make("b") is not make("a")
    assert made == ["a", "b"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_even_while_the_parent_is_making_one() -> None:
    begun, go_on = threading.Event(), threading.Event()

    @cached_per_process
    def make(name: str) -> Thing:
        if name == "slow":
            begun.set()
            go_on.wait(10)
        return Thing(name)

    first = make("a")
    thread = threading.Thread(target=make, args=("slow",))
    thread.start()
    begun.wait(10)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(make("a") is first))
    child.start()
    child.join(10)
    alive = child.is_alive()
    if alive:
        child.kill()
    go_on.set()
    thread.join()
    assert not alive, "the child waits for a lock of its parent"
    assert answers.get() is False
