import threading
import time

from apdist.data.loading.byte_semaphore import ByteSemaphore


def test_no_more_than_the_limit_is_held_at_once_and_all_get_their_turn() -> None:
    semaphore, held, most, lock = ByteSemaphore(100), 0, 0, threading.Lock()
    sizes = [30, 50, 70, 20, 100, 10] * 20

    def hold(size: int) -> None:
        nonlocal held, most
        semaphore.acquire(size)
        with lock:
            held += size
            most = max(most, held)
        time.sleep(0.001)
        with lock:
            held -= size
        semaphore.release(size)

    threads = [threading.Thread(target=hold, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 100
    assert semaphore.held == 0


def test_what_exceeds_the_limit_is_held_alone() -> None:
    semaphore = ByteSemaphore(100)
    entered = threading.Event()

    def large() -> None:
        semaphore.acquire(500)
        entered.set()

    semaphore.acquire(1)
    thread = threading.Thread(target=large)
    thread.start()
    assert not entered.wait(0.05)
    semaphore.release(1)
    assert entered.wait(5)
    thread.join()
