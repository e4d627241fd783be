"""The most memory that was used."""

import resource
from types import SimpleNamespace

import pytest
import torch

from apdist.training import memory_use
from apdist.training.memory_use import PeakMemory, peak_memory


def test_the_peak_is_that_of_the_kernel_and_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    used = SimpleNamespace(ru_maxrss=3 * 2**20 // memory_use._UNIT)
    monkeypatch.setattr(resource, "getrusage", lambda who: used)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * 2**20)
    assert peak_memory(torch.device("cpu")) == PeakMemory(device_mib=0, host_mib=3)
    assert peak_memory(torch.device("cuda")) == PeakMemory(device_mib=5, host_mib=3)


def test_this_process_has_used_some() -> None:
    assert 1 < peak_memory(torch.device("cpu")).host_mib < 2**20
