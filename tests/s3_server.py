"""A real S3 server for tests: SeaweedFS on a loopback port, killed when the block ends.

It can also be killed and started again in between, on the same ports and data.
"""

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
PORTS = range(20_000, 32_000)


@dataclass
class S3Server:
    """A server in a folder of its own."""

    folder: Path
    bucket: str
    ports: list[int]
    access_key: str = "tester"
    secret_key: str = "only-for-this-server"
    options: tuple[str, ...] = ()
    """Further options of SeaweedFS."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self.process is not None
        return self.process.pid

    @property
    def data(self) -> Path:
        """What it stores."""
        return self.folder / "data"

    def surroundings(self) -> dict[str, str]:
        """So that its logs end with its folder, and other tests have memory left."""
        own = str(self.folder)
        return {"HOME": own, "TMPDIR": own, "GOMEMLIMIT": "1GiB"}

    def start(self) -> None:
        """Start it, and return when its bucket is there.

        Raises:
            RuntimeError: it does not answer in time; the message holds its log.
        """
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command(self.data, self.ports, self.bucket), *self.options],
                env={**os.environ, **keys, **self.surroundings()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until_ready(self, self.process, log)

    def kill(self) -> None:
        """SIGKILL to its process, and no other: as if the power failed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def environment(self) -> dict[str, str]:
        """What boto3, pyarrow and Ray need to find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client of its own, whatever the environment says."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
        )

    def read(self, key: str) -> bytes:
        """The object ``key``."""
        data: bytes = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def names(self, prefix: str) -> list[str]:
        """What lies under ``prefix``, without it (up to 1,000 objects)."""
        answer = self.client().list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"].removeprefix(prefix) for entry in answer.get("Contents", ())]


@contextmanager
def s3_server(bucket: str = "apdist", options: tuple[str, ...] = ()) -> Iterator[S3Server]:
    """Start SeaweedFS with an empty ``bucket``; end its process, and no other, afterwards.

    Raises:
        RuntimeError: it does not answer in time; the message holds its log.
    """
    with tempfile.TemporaryDirectory(prefix="weed-") as folder:
        server = S3Server(Path(folder), bucket, free_ports(10), options=options)
        try:
            server.start()
            yield server
        finally:
            if server.process is not None:
                server.kill()  # nothing that it stores is kept
            for port in server.ports:  # its sockets lie there, whatever it is told
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink()


def command(data: Path, ports: list[int], bucket: str) -> list[str]:
    """SeaweedFS in one process: everything on loopback, nothing sent home."""
    data.mkdir(exist_ok=True)
    names = [
        f"{service}.port{kind}"
        for service in ("s3", "master", "filer", "volume", "admin")
        for kind in ("", ".grpc")
    ]
    return [
        str(Path(sys.executable).with_name("weed")),
        "mini",
        f"-dir={data}",
        f"-bucket={bucket}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        f"-filer.localSocket={data.parent / 'filer.sock'}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def free_ports(number: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, all different.

    They lie below those that a system gives to clients: one of them could be taken by another
    test's connection before the server is there. Ray's workers begin at 10,002 and end below, too.
    """
    ports: list[int] = []
    with ExitStack() as stack:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            with suppress(OSError):  # somebody listens
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == number:
                return ports
    raise RuntimeError(f"fewer than {number} ports of {PORTS} are free")


def wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the bucket is there."""
    client = server.client()
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.head_bucket(Bucket=server.bucket)
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-3000:]}")
