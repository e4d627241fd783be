"""Hosts of a Ray cluster that are network namespaces of this machine, on a bridge of their own.

The head is in the namespace of the tests, where the driver and the servers are; it trains nothing.
Each host has an address, a name and processes of its own, and a cable that can be pulled.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.s3_server import free_ports

START_TIMEOUT_S = 300
OF_HOSTS = {"GLOO_SOCKET_IFNAME": "eth0"}
HEAD, NAMES = "head", ("one", "two", "three")


class NotAllowedError(Exception):
    """This process may not make network namespaces, or has no `ip`."""


@dataclass
class Hosts:
    """Three hosts with a CPU each, and a head without any."""

    environment: Mapping[str, str]
    folder: Path
    logs: Path
    tag: str = field(default_factory=lambda: f"apd{os.getpid() % 100000}")
    net: str = field(default_factory=lambda: f"198.18.{os.getpid() % 250 + 1}")
    port: int = field(default_factory=lambda: free_ports(1)[0])
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """For `ray.address`."""
        return f"{self.net}.1:{self.port}"

    def space(self, name: str) -> str:
        """The namespace of a host."""
        return f"{self.tag}-{name}"

    def cable(self, name: str) -> str:
        """The end of a host's cable at the bridge."""
        return f"{self.tag}{NAMES.index(name)}"

    def build(self) -> None:
        """Make bridge, namespaces and cables.

        Raises:
            NotAllowedError: that is not allowed here.
        """
        try:
            ip("link", "add", self.tag, "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotAllowedError from error
        ip("addr", "add", f"{self.net}.1/24", "dev", self.tag)
        ip("link", "set", self.tag, "up")
        for number, name in enumerate(NAMES):
            space, cable = self.space(name), self.cable(name)
            try:
                ip("netns", "add", space)
            except subprocess.CalledProcessError as error:
                raise NotAllowedError from error
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", cable, "master", self.tag, "up")
            ip("-n", space, "addr", "add", f"{self.net}.{number + 2}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
            # No way out, but Ray asks for one to find its own address.
            ip("-n", space, "route", "add", "default", "via", f"{self.net}.1")

    def start(self, *names: str) -> None:
        """Start the Ray of hosts, or of the head; returns when they say that they are there."""
        for name in names:
            self._begin(name)
        deadline = time.monotonic() + START_TIMEOUT_S
        for name in names:
            log = self.logs / f"{name}.txt"
            while "Ray runtime started" not in (said := log.read_text(errors="replace")):
                assert time.monotonic() < deadline, said
                assert self.processes[name].poll() is None, said
                time.sleep(0.1)

    def _begin(self, name: str) -> None:
        ray = ["ray", "start", "--block", f"--node-ip-address={self.host_address(name)}"]
        if name == HEAD:
            more = ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"]
            command = [*ray, "--head", f"--port={self.port}", *more]
        else:
            # A name and a temporary folder of its own: all Rays of a cluster use the same path.
            # And a list of all names: there is nobody else to ask, which torch does, for seconds.
            own = 'hostname "$0" && mount --bind "$2" /etc/hosts && mount -t tmpfs none "$1"'
            own += ' && shift 2 && exec "$@"'
            inside = ["ip", "netns", "exec", self.space(name), "unshare", "--uts", "sh", "-c", own]
            inside += [name, str(self.folder), str(self.names())]
            command = [*inside, *ray, f"--address={self.address}", "--num-cpus=1"]
        with (self.logs / f"{name}.txt").open("wb") as output:
            self.processes[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment, **OF_HOSTS},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def names(self) -> Path:
        """A file with the names of all hosts."""
        lines = [f"{self.host_address(name)} {name}" for name in (HEAD, *NAMES)]
        path = self.logs / "names"
        path.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        return path

    def host_address(self, name: str) -> str:
        """In the net of all."""
        return f"{self.net}.{[HEAD, *NAMES].index(name) + 1}"

    def inside(self, name: str) -> list[psutil.Process]:
        """The processes of a host."""
        pids = ip("netns", "pids", self.space(name)).split()
        return [psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))]

    def with_workers(self) -> list[str]:
        """The hosts that train."""
        return [name for name in NAMES if any(map(is_worker, self.inside(name)))]

    def kill(self, name: str) -> None:
        """End all processes of a host."""
        while inside := self.inside(name):
            for process in inside:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.05)
        self.processes.pop(name).wait()  # of a host that was taken back it has ended already

    def unplug(self, name: str) -> None:
        """Pull the cable of a host: nothing comes through, and nobody is told."""
        ip("link", "set", self.cable(name), "down")

    def plug(self, name: str) -> None:
        """Put it back."""
        ip("link", "set", self.cable(name), "up")

    def drain(self, name: str, seconds: int) -> None:
        """Give notice: the host is to go after some seconds."""
        (raylet,) = (p for p in self.inside(name) if p.name() == "raylet")
        told = re.search(r"--node[-_]id=(\w+)", " ".join(raylet.cmdline()))
        assert told
        why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        when = ["--node-id", told[1], "--deadline-remaining-seconds", str(seconds)]
        subprocess.run(
            ["ray", "drain-node", "--address", self.address, *why, *when],
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
        )

    def end(self) -> None:
        """End what was started, and take the net down; nothing else."""
        for name in NAMES:
            with suppress(subprocess.CalledProcessError):
                if name in self.processes:
                    self.kill(name)
        if head := self.processes.get(HEAD):
            for process in psutil.Process(head.pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
            head.kill()
            head.wait()
        for name in NAMES:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", self.space(name))
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self.tag)


def is_worker(process: psutil.Process) -> bool:
    """Whether it trains."""
    try:
        return " ".join(process.cmdline()).startswith("ray::RayTrainWorker")
    except psutil.Error:  # it has just ended
        return False


def ip(*words: str) -> str:
    """What `ip` says."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def hosts(environment: Mapping[str, str], logs: Path) -> Iterator[Hosts]:
    """Three hosts and their head; gone afterwards.

    Raises:
        NotAllowedError: no network namespace can be made here.
    """
    # A short path: Ray makes sockets below it, and their names have a limit.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        made = Hosts(environment, Path(folder), logs)
        try:
            made.build()
            made.start(HEAD)
            made.start(*NAMES)
            yield made
        finally:
            made.end()
