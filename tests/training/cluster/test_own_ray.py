"""What a Ray of one's own leaves, and what of it is told; that it listens here: test_cluster."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from ray._private import ray_constants, services, utils

from apdist.training.cluster.own_ray import (
    give_token,
    in_own_session,
    is_on_loopback,
    on_loopback_only,
    refuse_without_place,
    session_folder,
    session_removed,
)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    folder = tmp_path / "session_1"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "raylet.out").write_text("a line")
    (tmp_path / "session_latest").symlink_to(folder)
    (tmp_path / "session_of_another").mkdir()
    return folder


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt(), ValueError("bad input")])
def test_nothing_is_left_of_a_session(session: Path, ending: BaseException | None) -> None:
    if ending is None:
        with session_removed(session):
            assert session.exists()
    else:
        with pytest.raises(type(ending)), session_removed(session, ValueError):
            raise ending
    assert [path.name for path in session.parent.iterdir()] == ["session_of_another"]


def test_after_a_failure_its_logs_stay_and_their_place_is_told(
    session: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RuntimeError),
        session_removed(session),
    ):
        raise RuntimeError("a worker died")
    assert (session / "logs" / "raylet.out").exists()
    assert f"Ray's own logs are in {session / 'logs'}" in caplog.text


def test_of_a_cluster_of_others_nothing_is_removed() -> None:
    assert session_folder() is None
    with session_removed(None):
        pass


def test_the_switch_is_back_after_the_start() -> None:
    before = ray_constants.ENABLE_RAY_CLUSTER
    with on_loopback_only():
        assert not ray_constants.ENABLE_RAY_CLUSTER
    assert before == ray_constants.ENABLE_RAY_CLUSTER


@pytest.mark.skipif(not utils.detect_fate_sharing_support(), reason="Ray would outlive its driver")
def test_what_ray_starts_is_in_no_group_of_ours() -> None:
    group = [sys.executable, "-c", "import os; print(os.getpgid(0))"]
    before = services.ConsolePopen
    with in_own_session(), services.ConsolePopen(group, stdout=subprocess.PIPE) as started:
        assert int(started.communicate()[0]) == started.pid != os.getpgid(0)
    assert services.ConsolePopen is before


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [(["127.0.0.1"], True), (["127.0.0.1", "127.0.0.1"], True), (["127.0.0.1", "10.0.0.7"], False)],
)
def test_a_ray_with_a_node_elsewhere_is_not_of_this_machine_only(
    addresses: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"NodeManagerAddress": "10.0.0.9", "Alive": False}
    nodes = [{"NodeManagerAddress": address, "Alive": True} for address in addresses]
    monkeypatch.setattr(ray, "nodes", lambda: [gone, *nodes])
    assert is_on_loopback() is expected


@pytest.mark.parametrize("said", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "HOME"])
def test_a_token_that_the_account_has_is_kept(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("f" * 64)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv(said, str(tmp_path))
    before = dict(os.environ)
    give_token()
    assert dict(os.environ) == before


def test_a_place_for_sessions_is_a_folder_or_can_be_made(tmp_path: Path) -> None:
    refuse_without_place(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    told = f"nothing can be made in {tmp_path}/file; set RAY_TMPDIR"
    with pytest.raises(ValueError, match=told):
        refuse_without_place(tmp_path / "file" / "folder")
