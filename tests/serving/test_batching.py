import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from apdist.serving.batching import Batcher


def test_what_comes_while_a_batch_is_worked_on_is_worked_on_together() -> None:
    batches: list[list[int]] = []
    first, go_on = threading.Event(), threading.Event()

    def work(jobs: list[int]) -> list[int]:
        batches.append(jobs)
        if len(batches) == 1:
            first.set()
            go_on.wait(10)
        return [10 * job for job in jobs]

    batcher: Batcher[int, int] = Batcher(work, most=4, wait_s=0)
    answers = [batcher.submit(0)]
    first.wait(10)
    answers += [batcher.submit(job) for job in range(1, 7)]
    assert batcher.num_waiting == 6
    go_on.set()
    assert [answer.result(10) for answer in answers] == [0, 10, 20, 30, 40, 50, 60]
    assert batches == [[0], [1, 2, 3, 4], [5, 6]]
    batcher.close()


def test_a_batch_is_closed_when_it_is_full_however_long_the_wait() -> None:
    batches: list[int] = []

    def work(jobs: list[int]) -> list[int]:
        batches.append(len(jobs))
        return jobs

    batcher: Batcher[int, int] = Batcher(work, most=3, wait_s=3600)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(batcher.submit, job) for job in range(6)]
    assert sorted(answer.result().result(10) for answer in answers) == [*range(6)]
    batcher.submit(7)
    batcher.close()  # ends the wait for the others
    assert batches == [3, 3, 1]


def test_an_error_is_the_answer_of_its_job_and_the_next_batch_is_worked_on() -> None:
    def work(jobs: list[int]) -> list[int | Exception]:
        if 13 in jobs:
            raise RuntimeError("all of them")
        return [ValueError("this one") if job == 3 else job for job in jobs]

    batcher: Batcher[int, int] = Batcher(work, most=1, wait_s=0)
    with pytest.raises(ValueError, match="this one"):
        batcher.submit(3).result(10)
    with pytest.raises(RuntimeError, match="all of them"):
        batcher.submit(13).result(10)
    assert batcher.submit(4).result(10) == 4
    assert batcher.is_alive
    batcher.close()
    assert not batcher.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(5)


def test_a_job_whose_asker_has_gone_is_not_worked_on() -> None:
    seen: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    def work(jobs: list[int]) -> list[int]:
        seen.extend(jobs)
        first.set()
        go_on.wait(10)
        return jobs

    batcher: Batcher[int, int] = Batcher(work, most=8, wait_s=0)
    batcher.submit(0)
    first.wait(10)
    gone, kept = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    go_on.set()
    assert kept.result(10) == 2
    batcher.close()
    assert seen == [0, 2]
    with pytest.raises(ValueError, match="batch of 1 or more"):
        Batcher(work, most=0, wait_s=0)
