"""The most memory that this process has used so far."""

import resource
import sys
from dataclasses import dataclass

import torch

# Linux counts in KiB, macOS in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class PeakMemory:
    """The peak memory of a process."""

    device_mib: float
    """0 on a CPU."""
    host_mib: float
    """Resident; without loader processes."""


def peak_memory(device: torch.device) -> PeakMemory:
    """Of this process and its ``device``."""
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return PeakMemory(used / 2**20, resident / 2**20)
