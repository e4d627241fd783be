"""A lock file: one holder at a time, and nothing left of it."""

import threading
import time
from pathlib import Path

from apdist.data.storage.locks import locked


def test_one_at_a_time_holds_a_lock_and_its_file_goes_with_the_last(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        with locked(path):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert not path.exists()
