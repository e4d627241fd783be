"""What a loader does: read on while it decodes, tell its errors, leave signals to its parent."""

import dataclasses
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import pytest

from apdist.config import AugmentConfig
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading import loader_process
from apdist.data.loading.decoding import TaskResult
from apdist.data.loading.loader_process import BEGIN, NewBuffer, Settings
from apdist.data.storage import StorageError
from tests.data.loading.streams import all_batches, loaders, stream_of
from tests.pictures import write_small_set

SETTINGS = Settings(augment=AugmentConfig(), num_threads=1, num_reads=1, encoded_bytes=1 << 20)


def test_loaders_leave_signals_to_their_parent(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    batches = stream_of(catalogue, loader_processes=2).batches(0, 60)
    next(batches)
    for process in loaders():
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    assert sum(1 for _ in batches) == 59


@pytest.mark.parametrize("orders", [[], [SETTINGS], [SETTINGS, NewBuffer(0, (1,))]])
def test_a_loader_whose_parent_stops_in_the_middle_of_an_order_ends_without_a_word(
    orders: list[object],
) -> None:
    here, there = Pipe()
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN.format(path=sys.path, descriptor=there.fileno())],
        pass_fds=[there.fileno()],
        stderr=subprocess.PIPE,
    ) as process:
        there.close()
        for order in orders:
            here.send(order)
        here.close()
        assert process.communicate()[1] == b""
    assert process.returncode == 0


def test_a_shard_that_is_gone_is_named_by_a_loader_process(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    catalogue = read_catalogue(str(tmp_path)).select("train")
    for path in tmp_path.glob("train-*.tar"):
        path.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        all_batches(stream_of(catalogue, loader_processes=1))


@pytest.mark.parametrize("processes", [0, 1])
def test_a_loader_with_another_decoder_is_refused(shards: Path, processes: int) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    with pytest.raises(ValueError, match="data.decoder is pillow-0.1, and here is pillow-"):
        stream_of(catalogue, decoder="pillow-0.1")
    stream = stream_of(catalogue, loader_processes=processes)
    stream.settings = dataclasses.replace(stream.settings, decoder="pillow-0.1")
    with pytest.raises(ValueError, match="data.decoder is pillow-0.1, and here is pillow-"):
        all_batches(stream)


def test_a_loader_reads_on_while_it_decodes_one_piece(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    decoding, most, read_meanwhile = 0, 0, 0
    real_decode, real_read = loader_process.decode_into, loader_process.read_images

    def filling(*arguments: Any) -> TaskResult:
        nonlocal decoding, most
        decoding += 1
        most = max(most, decoding)
        time.sleep(0.005)
        result = real_decode(*arguments)
        decoding -= 1
        return result

    def reading(*arguments: Any) -> list[bytes]:
        nonlocal read_meanwhile
        read_meanwhile += decoding
        return real_read(*arguments)

    monkeypatch.setattr(loader_process, "decode_into", filling)
    monkeypatch.setattr(loader_process, "read_images", reading)

    def read(num_threads: int, **changes: int) -> None:
        stream = stream_of(catalogue)
        stream.settings = dataclasses.replace(
            stream.settings, num_threads=num_threads, num_reads=3, **changes
        )
        assert len(all_batches(stream)) == 5

    read(num_threads=1)
    assert most == 1
    assert read_meanwhile > 0
    read(num_threads=3)
    assert most == 3
    read_meanwhile = 0
    read(num_threads=1, encoded_bytes=1)
    assert read_meanwhile == 0  # one request at a time: there is no room for two
