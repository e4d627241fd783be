"""What Ray and the workers write: in a file, bounded, and never on the screen."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage.registry import STORES
from apdist.training.cluster import noise as noise_module
from apdist.training.cluster.noise import NoiseFile, kept_noise
from tests.memory_store import MemoryStore


def told(*lines: str, **more: object) -> dict[str, object]:
    """Lines as Ray hands them over."""
    return {"lines": list(lines), "ip": "10.0.0.7", "pid": 5, "is_err": True, **more}


def words(path: Path) -> list[str]:
    """What stands behind the times."""
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]


def test_nothing_of_ray_is_on_the_screen_and_all_of_it_in_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    path, before = tmp_path / "ray.log", worker.print_to_stdstream
    log = logging.getLogger("ray.train")
    with kept_noise(NoiseFile(str(path))):
        # As Ray's threads do it: by the name in the module, when they are started.
        worker.print_to_stdstream(told("8 worker processes", pid="raylet"), ignore_prefix=False)
        worker.print_to_stdstream(told("deprecated", actor_name="RayTrainWorker"), False)
        log.error("a failure of %s", "Ray")
    assert worker.print_to_stdstream is before
    assert capfd.readouterr() == ("", "")
    assert words(path) == [
        "10.0.0.7 raylet: 8 worker processes",
        "10.0.0.7 RayTrainWorker 5: deprecated",
        "ray.train ERROR: a failure of Ray",
    ]


def test_what_is_said_again_and_again_is_there_once(tmp_path: Path) -> None:
    noise = NoiseFile(str(tmp_path / "log"))
    noise.take(told("not yet", "not yet", actor_name="A"))
    noise.take(told("not yet", actor_name="B"))
    noise.take(told("not yet", "now", "not yet", actor_name="A"))
    noise.take(told("0 of 8 CPU", ":event_summary:Adding 1 node", pid="autoscaler"))
    noise.close()
    assert words(tmp_path / "log") == [
        *("10.0.0.7 A 5: not yet", "10.0.0.7 B 5: not yet"),
        *("10.0.0.7 A 5: now", "10.0.0.7 A 5: not yet"),
        "10.0.0.7 autoscaler: :event_summary:Adding 1 node",
    ]


def test_a_later_attempt_is_written_below_and_the_file_stays_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    monkeypatch.setattr(noise_module, "MOST_BYTES", 100)
    for text in ("one", "two"):
        noise = NoiseFile(str(path))
        for _ in range(3):
            noise.write(text)
        noise.close()
    assert words(path) == ["one"] * 3 + ["two"] * 3
    noise = NoiseFile(str(path))
    for _ in range(9):
        noise.write("three")
    noise.close()
    assert words(path)[6:] == ["three", "lines are left out: the file is long enough"]


def test_in_object_storage_it_is_there_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    for text in ("one", "two"):
        noise = NoiseFile("mem://noise/run/ray.log")
        noise.write(text)
        noise.close()
    lines = storage.read_bytes("mem://noise/run/ray.log").decode().splitlines()
    assert [line.split()[1] for line in lines] == ["one", "two"]


def test_a_secret_in_an_address_is_not_written(tmp_path: Path) -> None:
    noise = NoiseFile(str(tmp_path / "log"))
    noise.take(told("GET https://s3/shard.tar?X-Amz-Signature=abc: 403", "http://me:word@proxy/"))
    noise.close()
    text = (tmp_path / "log").read_text()
    assert "shard.tar" in text
    assert "abc" not in text
    assert "word" not in text


def test_a_place_that_takes_nothing_costs_no_training(tmp_path: Path) -> None:
    noise = NoiseFile(str(tmp_path / "no folder" / "log"))
    noise.write("a line")
    noise.close()
    assert not list(tmp_path.iterdir())


def test_without_a_file_nothing_is_kept() -> None:
    noise = NoiseFile("")
    noise.write("a line")
    noise.take(told("a line"))
    noise.close()
