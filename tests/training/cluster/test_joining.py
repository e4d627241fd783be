"""The start of Ray and what is said of it; Ray itself is played."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from apdist.config import RayConfig
from apdist.training.cluster import own_ray
from apdist.training.cluster.joining import ENVIRONMENT, SMALLER, ray_cluster
from tests.training.cluster.conftest import Start


def test_handlers_of_signals_outlive_the_start_of_ray(
    start: Start,
) -> None:
    kinds = [signal.SIGINT, signal.SIGTERM]
    before = [signal.getsignal(kind) for kind in kinds]
    start(lambda **_: [signal.signal(kind, signal.SIG_IGN) for kind in kinds])
    with ray_cluster(RayConfig(num_workers=1)):
        assert [signal.getsignal(kind) for kind in kinds] == before


def test_a_sigterm_while_ray_starts_is_a_stop(start: Start) -> None:
    def init(**_: object) -> None:
        raise SystemExit(15)  # Ray's handler of SIGTERM

    start(init)
    with pytest.raises(KeyboardInterrupt), ray_cluster(RayConfig(num_workers=1)):
        pytest.fail("it went on")


def test_a_bare_exception_while_ray_starts_is_told_in_one_line_with_a_remedy(
    start: Start,
) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")

    start(slow)
    told = r"Ray did not start .*timed out during startup.\).*--ray.num-workers 0$"
    with pytest.raises(ValueError, match=told), ray_cluster(RayConfig(num_workers=1)):
        pass


def test_where_ray_does_not_start_its_own_words_are_kept_and_named(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(**_: object) -> None:
        os.write(2, b"[2026-11-26 23:17:36,299 E 23339 23339] raylet.cc:1: no shared memory\n")
        raise Exception("The current node timed out during startup.")

    start(slow)
    log = tmp_path / "ray.log"
    starting = ray_cluster(RayConfig(num_workers=1), str(log))
    with pytest.raises(ValueError, match="Ray did not start"), starting:
        pass
    assert "no shared memory" in log.read_text()
    assert f"Ray's own output is in {log}" in caplog.text


@pytest.mark.parametrize(
    ("folder", "message"),
    [("/tmp/" + "x" * 60, "has 65 characters, .* RAY_TMPDIR to a short"), ("/tmp", "overloaded")],
)
def test_a_folder_whose_path_is_too_long_for_rays_sockets_is_named(
    start: Start,
    folder: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise OSError("AF_UNIX path length cannot exceed 107 bytes")

    start(refuse)
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ValueError, match=message), ray_cluster(RayConfig(num_workers=1)):
        pass


def test_a_hang_is_noticed_within_a_minute_and_a_link_may_be_down_for_20_s() -> None:
    seconds = float(ENVIRONMENT["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"])
    polls_s = float(ENVIRONMENT["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"])
    assert 2 * 20 < seconds < 60 - 2 * polls_s  # TCP waits as long again


def test_words_on_a_machine_that_is_too_busy_name_the_options_of_the_verb(start: Start) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    start(slow)
    verb = ray_cluster(RayConfig(num_workers=1), smaller=SMALLER)
    with pytest.raises(ValueError, match="try again with fewer --ray.num-workers$"), verb:
        pass


def test_a_folder_that_ray_may_not_write_is_no_busy_machine(start: Start) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/ray")

    start(refuse)
    told = r"Permission denied: '/srv/ray'\); let this account write there, or set HOME"
    with pytest.raises(ValueError, match=told), ray_cluster(RayConfig(num_workers=1)):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Ray passes over TMPDIR elsewhere")
def test_a_full_disk_of_temporary_files_is_refused_before_ray_waits_for_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(lambda **_: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(own_ray, "LEAST_FREE", shutil.disk_usage(tmp_path).total)
    told = f"temporary files is full: {tmp_path} has .* MiB left, .* set RAY_TMPDIR"
    with pytest.raises(ValueError, match=told), ray_cluster(RayConfig(num_workers=1)):
        pass


def test_a_local_ray_needs_no_home_to_write_its_token_to(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # and gone again after the test
    seen: list[str] = []
    start(lambda **_: seen.append(os.environ["RAY_AUTH_TOKEN"]))
    with ray_cluster(RayConfig(num_workers=1)):
        assert len(seen[0]) == 64
