"""A real MLflow server for tests: sqlite, a loopback port; it can be killed and come back."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.s3_server import free_ports

START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Tracked:
    """What the database holds of a run."""

    status: str
    points: dict[str, list[tuple[int, float]]]
    """Every row of each metric as step and value, in the order of steps."""
    tags: dict[str, str]

    def steps(self, name: str) -> list[int]:
        return [step for step, _ in self.points.get(name, ())]


@dataclass
class MlflowServer:
    """A server in a folder of its own."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """For `tracking.uri`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            RuntimeError: it does not in time; the message holds its log.
        """
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *address],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"MLflow did not start:\n{log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """SIGKILL to it and the process that it starts: they are a session of their own."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def tracked(self, name: str) -> list[Tracked]:
        """The runs of this name, read from the database itself."""
        with closing(sqlite3.connect(self.folder / "mlflow.db", timeout=30)) as database:
            runs = database.execute("SELECT run_uuid, status FROM runs WHERE name = ?", [name])
            return [Tracked(status, *_contents(database, uuid)) for uuid, status in runs.fetchall()]


def _contents(
    database: sqlite3.Connection, uuid: str
) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    points: dict[str, list[tuple[int, float]]] = {}
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY step"
    for key, step, value in database.execute(query, [uuid]):
        points.setdefault(key, []).append((step, value))
    tags = database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [uuid])
    return points, dict(tags.fetchall())


@contextmanager
def mlflow_server() -> Iterator[MlflowServer]:
    """Start a server with an empty database; end it, and nothing else, afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        server = MlflowServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()
