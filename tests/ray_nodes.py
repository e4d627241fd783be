"""A Ray cluster of some nodes that is started outside the process that uses it, on loopback."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.places import ROOT
from tests.s3_server import free_ports

START_TIMEOUT_S = 150
STOP_TIMEOUT_S = 60
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class RayNodes:
    """A cluster that runs: nodes of one CPU each, two at first."""

    address: str
    """For `--ray.address` of a driver."""
    dashboard: str
    """For `--ray.address` of `apdist submit`."""
    second: str
    """Id of the node that is not the head."""
    pid: int
    orders: IO[bytes]
    """What the process that holds the nodes reads."""
    folder: Path
    """Where it tells of them."""

    def add(self) -> str:
        """Start another node; returns its id when it belongs to the cluster."""
        return self._told("add")

    def kill(self, node: str) -> None:
        """End a node as a lost machine ends: its raylet and its workers are killed."""
        self._told(f"kill {node}")

    def _told(self, order: str) -> str:
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        self.orders.write(f"{order}\n".encode())
        self.orders.flush()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answer.exists():
            assert time.monotonic() < deadline, f"the cluster does not {order}"
            time.sleep(0.05)
        return answer.read_text()

    def workers(self) -> list[psutil.Process]:
        """The training workers; only descendants of what was started here."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:  # it has just ended
                continue
            if title.startswith("ray::RayTrainWorker"):
                found.append(process)
        return found

    def num_nodes_with_workers(self) -> int:
        """Nodes that have a training worker: each is the child of its node's raylet."""
        return len({worker.ppid() for worker in self.workers()})


def environment(home: Path) -> dict[str, str]:
    """For the cluster and who talks to it: a token, a home of its own, `apdist` on the path."""
    return {
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its other meaning: stay on loopback
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@contextmanager
def ray_nodes(env: Mapping[str, str], log: Path) -> Iterator[RayNodes]:
    """Start the nodes in a process of their own; end them, and nothing else, afterwards.

    Raises:
        RuntimeError: they do not start in time; the message holds their log.
    """
    # A short path: Ray makes sockets below it, and their names have a limit.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.ray_nodes", folder],
                env={**os.environ, **env},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            facts = _wait_for_facts(Path(folder, "facts.json"), process, log)
            assert process.stdin is not None
            yield RayNodes(**facts, pid=process.pid, orders=process.stdin, folder=Path(folder))
        finally:
            _end(process)


def _wait_for_facts(path: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"Ray did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
    facts: dict[str, str] = json.loads(path.read_text())
    return facts


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closing its input is the signal to shut the nodes down; what then is left is killed."""
    children = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:
        if child.is_running():  # psutil compares the start time too: never another's process
            child.kill()


def main(folder: Path) -> None:
    """Start two nodes, say where they are, obey until the end of the input, end them all."""
    from ray.cluster_utils import Cluster

    port, *agents = free_ports(3)
    head = {
        "num_cpus": 1,
        "dashboard_agent_listen_port": agents[0],
        "temp_dir": str(folder),
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(num_cpus=1, dashboard_agent_listen_port=agents[1])
    cluster.wait_for_nodes()
    facts = {
        "address": cluster.address,
        "dashboard": f"http://127.0.0.1:{port}",
        "second": second.node_id,
    }
    (folder / "facts.part").write_text(json.dumps(facts))
    (folder / "facts.part").replace(folder / "facts.json")
    nodes: dict[str, Any] = {second.node_id: second}
    for line in sys.stdin:
        order, _, name = line.strip().partition(" ")
        if order == "add":
            # Returns when the node belongs to the cluster. Not all others do: drained ones end.
            node = cluster.add_node(num_cpus=1, dashboard_agent_listen_port=free_ports(1)[0])
            name = node.node_id
            nodes[name] = node
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        (folder / "answer.part").write_text(name)
        (folder / "answer.part").replace(folder / "answer")
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
