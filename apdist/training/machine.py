"""How busy the machine of a worker is: told every few seconds from a thread, to the end."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from apdist.training.events import MachineSampled, now_ms
from apdist.training.mailbox import Link

logger = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two samples, the interval that MLflow takes too."""
FIRST_S = 1.0
"""Until the first one: of less time a share of the CPUs means nothing."""
_MB = 1e6


@contextmanager
def sampled(link: Link) -> Iterator[None]:
    """Tell how busy this machine is while the block runs; the thread has ended when it has."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(link, ended), name="machine", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(link: Link, ended: threading.Event) -> None:
    try:
        machine, host, pause_s = Machine(), socket.gethostname(), FIRST_S
        while not ended.wait(pause_s):
            link.post(MachineSampled(host=host, figures=machine.figures(), time_ms=now_ms()))
            pause_s = EVERY_S
    # What cannot be read on a machine, or told, is no reason to end a training.
    except Exception as error:
        logger.info("the machine is not watched any more (%s)", error)


class Machine:
    """This machine, since the object was made."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # of the time since the last call; the first has none
        self._began = psutil.net_io_counters()
        self._gpus = _gpus()

    def figures(self) -> dict[str, float]:
        """What it is doing, by MLflow's names."""
        memory, disk, network = (
            psutil.virtual_memory(),
            psutil.disk_usage(os.getcwd()),
            psutil.net_io_counters(),
        )
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_megabytes": disk.used / _MB,
            "disk_usage_percentage": disk.percent,
        }
        if network is not None and self._began is not None:  # a machine may have no network
            received = network.bytes_recv - self._began.bytes_recv
            sent = network.bytes_sent - self._began.bytes_sent
            found["network_receive_megabytes"] = received / _MB
            found["network_transmit_megabytes"] = sent / _MB
        for number, gpu in enumerate(self._gpus):
            found |= {f"gpu_{number}_{name}": value for name, value in _figures_of(gpu).items()}
        return found


def _gpus() -> list[Any]:
    """Handles of the NVIDIA GPUs; none where the package pynvml or the driver is not there."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # its errors are of a class of the package that may not be there
        return []


def _figures_of(gpu: Any) -> dict[str, float]:
    import pynvml

    found = {}
    with suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        found["memory_usage_megabytes"] = memory.used / _MB
        found["memory_usage_percentage"] = 100 * memory.used / memory.total
    with suppress(pynvml.NVMLError):  # a part of a GPU has none
        found["utilization_percentage"] = float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
    with suppress(pynvml.NVMLError):
        found["power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000
    return found
