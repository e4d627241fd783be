import threading
import time

from apdist.data.loading.allowance import Allowance


def test_no_more_than_the_limit_is_held_at_once_and_all_get_their_turn() -> None:
    allowance, held, most, lock = Allowance(100), 0, 0, threading.Lock()
    sizes = [30, 50, 70, 20, 100, 10] * 20

    def hold(size: int) -> None:
        nonlocal held, most
        allowance.take(size)
        with lock:
            held += size
            most = max(most, held)
        time.sleep(0.001)
        with lock:
            held -= size
        allowance.give(size)

    threads = [threading.Thread(target=hold, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 100
    assert allowance.taken == 0


def test_what_exceeds_the_limit_is_held_alone() -> None:
    allowance = Allowance(100)
    entered = threading.Event()

    def large() -> None:
        allowance.take(500)
        entered.set()

    allowance.take(1)
    thread = threading.Thread(target=large)
    thread.start()
    assert not entered.wait(0.05)
    allowance.give(1)
    assert entered.wait(5)
    thread.join()
