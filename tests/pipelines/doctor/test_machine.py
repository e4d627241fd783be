"""What is said of a machine."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from apdist_verbs.doctor import machine


def test_a_small_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = namedtuple("disk", ["total", "free"])(64 << 20, 1 << 20)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: disk)
    monkeypatch.setattr(machine, "machine_bytes", lambda: 1 << 30)
    assert "--shm-size" in machine.shared_memory(tmp_path)[2]
    assert "s3://BUCKET/runs" in machine.disk(str(tmp_path))[2]
    assert "--ray.num-workers 0" in machine.cores_and_memory()[2]
    monkeypatch.setattr(machine, "_imports", lambda module: module != "peft")
    assert machine.extras()[1:] == (
        "not installed: lora",
        "where they are wanted: pip install 'apdist[lora]'",
    )
