"""The most memory that was used."""

import torch

from apdist.training.memory_use import peak_memory


def test_what_was_used_and_given_back_counts() -> None:
    before = peak_memory(torch.device("cpu"))
    used = torch.ones(3 * int(before.host_mib) * 2**18)  # three times as much, once
    del used
    after = peak_memory(torch.device("cpu"))
    assert after.device_mib == 0
    assert after.host_mib > 2.5 * before.host_mib
