"""A server under load: errors, latency, and its throughput against the bare forward pass.

    python benchmarks/serving.py --clients 64 --seconds 60

Clients keep a connection each and send the next picture when they have an answer, from a process of
their own on the same cores. The bare pass is the network alone on batches of the server's size that
lie in memory, before and after; no JPEG is decoded there, nothing is searched and nobody asks. The
ratio in CPU time is that of the bare pass for an image to that of server and clients for a request:
it says the same where other work is on the cores. The network has random weights: they change no
time.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from apdist.config import ModelConfig
from apdist.model.descriptor import DescriptorNet
from apdist.model.pieces import in_pieces
from apdist.model.pretrained import build_model, save_model
from apdist.retrieval.index import build_index, save_index

BACKBONE = "efficientnet_lite0"
NUM_PICTURES = 64


def main() -> None:
    arguments = parsed()
    network = build_model(ModelConfig(backbone=BACKBONE, dim=256)).eval()
    with tempfile.TemporaryDirectory() as folder:
        write_run(network, Path(folder), arguments)
        before = bare_rate(network, arguments)
        port = free_port()
        words = ["serve", folder, "--port", str(port), "--batch-size", str(arguments.batch_size)]
        server = subprocess.Popen([sys.executable, "-m", "apdist_verbs", *words])
        try:
            wait_until_ready(port)
            load(port, arguments, 3.0)  # connections, caches
            cpu_before = cpu_seconds(server.pid)
            seconds, latencies, errors, cpu = load(port, arguments, arguments.seconds)
            cpu += cpu_seconds(server.pid) - cpu_before
            sizes = batch_size_of(port)
        finally:
            server.terminate()
            code = server.wait()
        after = bare_rate(network, arguments)
    rate, bare = len(latencies) / seconds, (before[0] + after[0]) / 2
    bare_cpu = (before[1] + after[1]) / 2
    cuts = statistics.quantiles(latencies, n=100)
    print(f"\n{arguments.clients} clients, {seconds:.0f} s, {BACKBONE} at {arguments.side} px")
    print(
        "| requests | errors | requests/s | bare pass, images/s | ratio | ratio in CPU time "
        "| p50 ms | p95 ms | batch |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {len(latencies)} | {errors} | {rate:.1f} "
        f"| {before[0]:.1f} before, {after[0]:.1f} after | {rate / bare:.2f} "
        f"| {bare_cpu * len(latencies) / cpu:.2f} | "
        f"{1000 * cuts[49]:.0f} | {1000 * cuts[94]:.0f} | {sizes:.1f} |"
    )
    print(f"the server ended with {code}")


def write_run(network: DescriptorNet, folder: Path, arguments: argparse.Namespace) -> None:
    """A run with an index, as far as a server needs one."""
    fit = network.fit(arguments.side, "crop")
    model_id = save_model(network, network.state_dict(), fit, str(folder))
    vectors = torch.nn.functional.normalize(torch.randn(arguments.images, 256), dim=1)
    keys = pa.table({"key": [f"image {number}" for number in range(arguments.images)]})
    save_index(build_index(vectors, keys, kind="exact", model_id=model_id), folder / "index")


def bare_rate(network: DescriptorNet, arguments: argparse.Namespace) -> tuple[float, float]:
    """Images per second of the network alone, and its CPU seconds an image: medians of batches."""
    size = arguments.batch_size, 3, arguments.side, arguments.side
    images = torch.randint(256, size, dtype=torch.uint8)
    spent, cpu = list[float](), list[float]()
    until = time.monotonic() + arguments.seconds / 4
    with torch.no_grad():
        in_pieces(network, images)
        while time.monotonic() < until or len(spent) < 3:
            start, cpu_start = time.perf_counter(), time.process_time()
            in_pieces(network, images)
            spent.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
    of_batch = statistics.median(spent), statistics.median(cpu)
    return float(arguments.batch_size / of_batch[0]), of_batch[1] / arguments.batch_size


def cpu_seconds(process: int) -> float:
    """That a process has used so far, with all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pictures() -> list[bytes]:
    """JPEGs of 320 x 240, of some 20 kB."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(NUM_PICTURES):
        coarse = Image.fromarray(random.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        target = io.BytesIO()
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(target, "JPEG", quality=92)
        found.append(target.getvalue())
    return found


def load(
    port: int, arguments: argparse.Namespace, seconds: float
) -> tuple[float, list[float], int, float]:
    """Seconds that it took, those of each answer, how many were errors, the clients' CPU time."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=clients, args=(port, arguments.clients, seconds, answers))
    process.start()
    found: tuple[float, list[float], int, float] = answers.get()
    process.join()
    return found


def clients(port: int, number: int, seconds: float, answers: multiprocessing.Queue[object]) -> None:
    """Ask from so many threads."""
    data, latencies, errors = pictures(), list[float](), list[str]()
    until = time.monotonic() + seconds

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        turn = first
        while time.monotonic() < until:
            body, start = data[turn % len(data)], time.perf_counter()
            try:
                headers = {"Content-Type": "image/jpeg"}
                connection.request("POST", "/v1/search?k=10", body, headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
                if answer.status != 200 or len(found["results"]) != 10:
                    errors.append(str(found))
            except (OSError, http.client.HTTPException, ValueError) as error:
                errors.append(repr(error))
                connection.close()
            latencies.append(time.perf_counter() - start)
            turn += 1

    start, cpu = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=ask, args=(first,)) for first in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in sorted(set(errors))[:3]:
        print(f"error: {error}", flush=True)
    spent = time.monotonic() - start, time.process_time() - cpu
    answers.put((spent[0], latencies, len(errors), spent[1]))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def got(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def wait_until_ready(port: int) -> None:
    for _ in range(600):
        try:
            got(port, "/health")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the server does not start")


def batch_size_of(port: int) -> float:
    """Mean of the batches so far."""
    figures = dict(
        line.rsplit(" ", 1) for line in got(port, "/metrics").splitlines() if line[0] != "#"
    )
    return float(figures["apdist_batch_size_sum"]) / float(figures["apdist_batch_size_count"])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=10_000, help="of the index")
    return parser.parse_args()


if __name__ == "__main__":
    main()
