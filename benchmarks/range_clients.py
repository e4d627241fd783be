"""Which client reads ranges of objects at the least CPU time, from a real S3 server on loopback.

    python benchmarks/range_clients.py --threads 8 --requests 1500

Ranges of 60 to 240 KB at random offsets of a few objects, as the training stream reads them. CPU
time is that of this process; the server's is left out. obstore joins in where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import urllib3
from botocore.config import Config
from pyarrow.fs import S3FileSystem

sys.path.insert(0, str(Path(__file__).parent.parent))

from apdist.data import storage
from tests.s3_server import S3Server, s3_server

NUM_OBJECTS = 4
OBJECT_BYTES = 32 << 20

Read = Callable[[str, int, int], Any]
"""Reads (key, offset, size)."""


@dataclass(frozen=True)
class Result:
    """What the requests of one client took, per request."""

    requests_per_s: float
    cpu_ms: float


def main() -> None:
    arguments = parsed()
    with s3_server() as server:
        os.environ.update(server.environment())
        for number in range(NUM_OBJECTS):
            storage.write_bytes(
                f"s3://{server.bucket}/{number}", random.Random(number).randbytes(OBJECT_BYTES)
            )
        clients = build_clients(server)
        rounds: dict[str, list[Result]] = {name: [] for name in clients}
        for name, read in clients.items():
            check(name, read)
        for _ in range(arguments.repeats):
            for name, read in clients.items():
                rounds[name].append(measured(read, arguments.requests, arguments.threads))
    print(f"{arguments.threads} threads, {arguments.requests} ranges, best of {arguments.repeats}")
    print("| client | requests/s | CPU ms a request |")
    print("|---|---|---|")
    for name, results in rounds.items():
        speed = max(result.requests_per_s for result in results)
        print(f"| {name} | {speed:.0f} | {min(result.cpu_ms for result in results):.2f} |")


def build_clients(server: S3Server) -> dict[str, Read]:
    clients = {
        "boto3 `get_object`": boto3_client(server),
        "pyarrow `S3FileSystem`": pyarrow_client(server),
        "urllib3, presigned address": presigned_client(server),
        "apdist `read_range` (urllib3, signed headers)": lambda key, offset, size: (
            storage.read_range(f"s3://{server.bucket}/{key}", offset, size)
        ),
    }
    if importlib.util.find_spec("obstore"):
        clients["obstore `get_range`"] = obstore_client(server)
    return clients


def boto3_client(server: S3Server) -> Read:
    client = boto3.client("s3", config=Config(max_pool_connections=32))

    def read(key: str, offset: int, size: int) -> Any:
        asked = f"bytes={offset}-{offset + size - 1}"
        return client.get_object(Bucket=server.bucket, Key=key, Range=asked)["Body"].read()

    return read


def pyarrow_client(server: S3Server) -> Read:
    files = S3FileSystem(
        access_key=server.access_key,
        secret_key=server.secret_key,
        endpoint_override=server.endpoint,
        region="us-east-1",
    )

    def read(key: str, offset: int, size: int) -> Any:
        with files.open_input_file(f"{server.bucket}/{key}") as file:
            return file.read_at(size, offset)

    return read


def presigned_client(server: S3Server) -> Read:
    client = boto3.client("s3", config=Config(signature_version="s3v4"))
    urls = {
        str(number): client.generate_presigned_url(
            "get_object", Params={"Bucket": server.bucket, "Key": str(number)}
        )
        for number in range(NUM_OBJECTS)
    }
    pool = urllib3.PoolManager(maxsize=32)

    def read(key: str, offset: int, size: int) -> Any:
        asked = f"bytes={offset}-{offset + size - 1}"
        return pool.request("GET", urls[key], headers={"Range": asked}).data

    return read


def obstore_client(server: S3Server) -> Read:
    obstore: Any = importlib.import_module("obstore")
    store = importlib.import_module("obstore.store").S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )

    def read(key: str, offset: int, size: int) -> Any:
        return obstore.get_range(store, key, start=offset, length=size)

    return read


def check(name: str, read: Read) -> None:
    expected = random.Random(1).randbytes(OBJECT_BYTES)[1000:101_000]
    if bytes(memoryview(read("1", 1000, 100_000))) != expected:
        raise SystemExit(f"{name} reads something else")


def measured(read: Read, number: int, threads: int) -> Result:
    draw = random.Random(5)
    sizes = [draw.randrange(60_000, 240_000) for _ in range(number)]
    ranges = [
        (str(i % NUM_OBJECTS), draw.randrange(OBJECT_BYTES - s), s) for i, s in enumerate(sizes)
    ]
    with ThreadPoolExecutor(threads) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in pool.map(lambda one: read(*one), ranges):
            pass
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Result(number / wall, cpu / number * 1000)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
