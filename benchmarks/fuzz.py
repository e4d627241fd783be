"""Damaged and hostile inputs until the minutes are over: each is taken, or refused in words.

    python benchmarks/fuzz.py catalogue --minutes 10
    python benchmarks/fuzz.py tar config space marker search upload --minutes 2 --seed 1

Valid inputs are changed by seeded random mutations (of bits, bytes, lines and values), the same for
the same seed. What ends in anything but success or one of the errors that the product documents, or
takes longer than 20 s, is a crash; so is a `ValueError` of a library that nobody put into words.
Prints the inputs tried, and for each place that crashes the smallest input found, which `--input`
runs again.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz_targets import REFUSALS, TARGETS, Target

from apdist.data import storage

MOST_SECONDS = 20
SHRINKING_S = 30
ROOT = Path(__file__).resolve().parent.parent
OWN = (str(ROOT / "apdist"), str(ROOT / "pipelines"))
ODD_BYTES = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff" * 7 + b"\x7f", b"\0" * 8, b"..", b"../../x"),
    *(
        b"\n",
        b'"',
        b"'",
        b"{",
        b"[" * 2000,
        b"\\",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"-1",
        b"1e999",
    ),
    *(b"NaN", b"9" * 400, b"null", b"true", b"=", b",", b"%s", b"\x00\xff" * 40),
)


def main() -> None:
    arguments = parsed()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # An input may name servers, which need not be waited for.
    storage.configure(storage.RetryPolicy(deadline_s=0.1, unanswered_s=0.05))
    if arguments.input:
        for name in arguments.targets:
            with tempfile.TemporaryDirectory() as folder:
                print(name, outcome(TARGETS[name](Path(folder)), arguments.input.read_bytes()))
        return
    found = 0
    for name in arguments.targets:
        with tempfile.TemporaryDirectory() as folder:
            found += fuzzed(name, TARGETS[name](Path(folder)), arguments)
    sys.exit(1 if found else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="+", choices=TARGETS, metavar=f"{{{','.join(TARGETS)}}}")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each target")
    parser.add_argument("--inputs", type=int, default=0, help="end after so many; 0: never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=Path, help="run this one input")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="folder for crashes")
    return parser.parse_args()


def fuzzed(name: str, target: Target, arguments: argparse.Namespace) -> int:
    """Try inputs until the time is over; returns the number of different crashes."""
    for seed in target.seeds:
        target.run(seed)  # a valid input that is refused is a mistake of ours
    end = time.monotonic() + 60 * arguments.minutes
    crashes: dict[str, bytes] = {}
    counts: Counter[str] = Counter()
    number = 0
    while time.monotonic() < end and (not arguments.inputs or number < arguments.inputs):
        order = random.Random(f"{arguments.seed} {name} {number}")
        data = mutated(target, order)
        number += 1
        told = outcome(target, data)
        counts["refused" if told == REFUSED else "crashed" if told else "taken"] += 1
        if told not in ("", REFUSED) and told not in crashes:
            crashes[told] = data
    print(
        f"{name}: {number:,} inputs, {counts['taken']:,} taken, {counts['refused']:,} refused, "
        f"{len(crashes)} different crashes",
        flush=True,
    )
    for place, (told, data) in enumerate(crashes.items()):
        smallest = shrunk(target, data, told)
        arguments.out.mkdir(exist_ok=True)
        file = arguments.out / f"{name}-{place}"
        file.write_bytes(smallest)
        print(f"  {told}\n    {file}: {len(smallest)} bytes {smallest[:160]!r}", flush=True)
    return len(crashes)


REFUSED = "refused"


def outcome(target: Target, data: bytes) -> str:
    """Empty: taken; `REFUSED`; or the crash, as what was raised and where."""
    try:
        with at_most(MOST_SECONDS):
            target.run(data)
    except REFUSALS as error:
        frames = traceback.extract_tb(error.__traceback__)
        in_words = frames[-1].filename.startswith(OWN) and str(error).strip()
        return REFUSED if in_words else _described(error)
    except Exception as error:
        return _described(error)
    return ""


def _described(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(OWN)] or frames
    return f"{type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}"


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End the block by an exception that nobody catches as a refusal."""

    def too_long(*_: object) -> None:
        raise RuntimeError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated(target: Target, order: random.Random) -> bytes:
    """A valid input with some changes."""
    data = order.choice(target.seeds)
    if target.altered is not None and order.random() < 0.7:
        return target.altered(data, order)
    for _ in range(order.choice((1, 1, 2, 4, 16))):
        data = order.choice(CHANGES)(data, order)
    return data


def _place(data: bytes, order: random.Random) -> int:
    return order.randrange(len(data) + 1)


def _flip(data: bytes, order: random.Random) -> bytes:
    if not data:
        return data
    changed, place = bytearray(data), order.randrange(len(data))
    changed[place] ^= 1 << order.randrange(8)
    return bytes(changed)


def _insert(data: bytes, order: random.Random) -> bytes:
    place = _place(data, order)
    return data[:place] + order.choice(ODD_BYTES) + data[place:]


def _replace(data: bytes, order: random.Random) -> bytes:
    place, odd = _place(data, order), order.choice(ODD_BYTES)
    return data[:place] + odd + data[place + len(odd) :]


def _delete(data: bytes, order: random.Random) -> bytes:
    place = _place(data, order)
    return data[:place] + data[place + order.choice((1, 1, 4, 64, 512)) :]


def _double(data: bytes, order: random.Random) -> bytes:
    first, second = sorted((_place(data, order), _place(data, order)))
    return data[:second] + data[first:second] + data[second:]


def _cut(data: bytes, order: random.Random) -> bytes:
    return data[: _place(data, order)]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip, _insert, _replace, _delete, _double, _cut),
)


def shrunk(target: Target, data: bytes, told: str) -> bytes:
    """The smallest part of ``data`` found that crashes in the same way."""
    size, end = max(1, len(data) // 2), time.monotonic() + SHRINKING_S
    while size:
        place = 0
        while place < len(data):
            if time.monotonic() > end:
                return data
            shorter = data[:place] + data[place + size :]
            if outcome(target, shorter) == told:
                data = shorter
            else:
                place += size
        size //= 2
    return data


if __name__ == "__main__":
    main()
