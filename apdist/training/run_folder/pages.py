"""The history of a run as it lies beside the checkpoints: pages of lines.

A checkpoint's marker names the pages ``history/000000-<sha256>.jsonl`` that hold every event up to
its step, one in a line. Pages never change: the last one, until it is full, is written anew, under
a new name, with each checkpoint. So the history goes back with the weights to any checkpoint and
has each step once, and neither a crash nor a second writer can mix two histories.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

from apdist.data import storage
from apdist.training.run_folder.history import HistoryEvent, from_lines, to_lines

FOLDER = "history"
PAGE_BYTES = 1 << 20
"""A page that has reached this size is full; each checkpoint writes at most about as much anew."""
_NAME = re.compile(r"\d{6,}-[0-9a-f]{64}\.jsonl")


class Recorder:
    """Collects the events of a run on the worker that writes its checkpoints.

    Args:
        run: URI of the run's folder.
        pages: of the checkpoint that the run goes on from.
    """

    def __init__(self, run: str, pages: Sequence[str] = ()) -> None:
        self.run, self.begun, self.full = run, tuple(pages), list(pages)
        self.last = bytearray()
        if pages and len(text := read_page(run, pages[-1])) < PAGE_BYTES:
            self.full.pop()
            self.last += text

    def add(self, event: HistoryEvent) -> None:
        """Note an event, for the next checkpoint."""
        self.last += to_lines([event]).encode()

    def cut(self) -> tuple[list[str], bytes]:
        """Names of the pages up to now, and the last one's content, which is to be written.

        Without any event both are empty.
        """
        if not self.last:
            return list(self.full), b""
        content = bytes(self.last)
        pages = [*self.full, page_name(len(self.full), content)]
        if len(content) >= PAGE_BYTES:
            self.full, self.last = list(pages), bytearray()
        return pages, content


def page_name(number: int, content: bytes) -> str:
    """Name of page ``number``, which says what must be in it."""
    return f"{number:06d}-{hashlib.sha256(content).hexdigest()}.jsonl"


def write_page(run: str, name: str, content: bytes) -> None:
    """Write a page into the run's folder."""
    storage.write_bytes(_place(run, name), content)


def read_page(run: str, name: str) -> bytes:
    """The lines of a page.

    Raises:
        ValueError: it is missing or not what was written.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:100]!r} is no page of a history")
    content = storage.read_bytes(_place(run, name))
    if page_name(int(name.partition("-")[0]), content) != name:
        raise ValueError(f"{_place(run, name)} is damaged: its checksum differs")
    return content


def read_pages(run: str, pages: Iterable[str]) -> list[HistoryEvent]:
    """All events on ``pages``, in order.

    Raises:
        ValueError: a page is missing or not what was written.
    """
    return from_lines(b"".join(read_page(run, name) for name in pages).decode())


def prune_pages(run: str, used: Iterable[str]) -> None:
    """Delete the pages that no checkpoint names any more."""
    for name in set(storage.list_files(storage.join(run, FOLDER))) - set(used):
        if _NAME.fullmatch(name):
            storage.remove(_place(run, name))


def _place(run: str, name: str) -> str:
    return storage.join(run, f"{FOLDER}/{name}")
