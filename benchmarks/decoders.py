"""Training images by each decoder against an earlier commit's, one core; and how far they differ.

    python benchmarks/decoders.py
    python benchmarks/decoders.py --photos FOLDER    # of JPEGs, also compared with Pillow's

A unit is what `training_image` of the commit makes of 800 x 600 JPEGs at 224 px. Each way is a
process that does nothing else; rounds alternate between them, and a ratio is of one round, in
processor time, as others may use the machine. Medians count. The commit must be in this clone.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from loader import AUGMENT, SIDE, picture

from apdist.config import AugmentConfig
from apdist.data.decoders import fill_of, resolved

ROOT = Path(__file__).parents[1]
QUALITIES = (90, 60)
"""Of the JPEGs: the fewer bytes, the less of the time is Huffman coding, which all ways share."""
WORKER = """
import ctypes, sys, time
sys.path[:] = {path!r}
import numpy as np
from apdist.config import AugmentConfig
if {decoder!r}:
    from apdist.data.decoders import fill_of
    fill = fill_of({decoder!r})
else:
    from apdist.data.images import training_image
    def fill(out, data, augment, seed):
        out[:] = training_image(data, out.shape[-1], augment, seed)
libc = ctypes.CDLL(None)
for number, value in ((-1, 64 << 20), (-3, 64 << 20), (-8, 1)):  # as loaders do
    libc.mallopt(number, value)
encoded = [open(name, "rb").read() for name in {names!r}]
augment, out = AugmentConfig(**{augment!r}), np.empty((3, {side}, {side}), np.uint8)
for line in sys.stdin:
    began = time.process_time()
    for number in range(int(line)):
        fill(out, encoded[number % len(encoded)], augment, number)
    print((time.process_time() - began) / int(line), flush=True)
"""
"""Told how many images to make, it says the seconds of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commit", default="387e560")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=60, help="of a round")
    parser.add_argument("--photos", default="", help="folder of JPEGs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check_out(arguments.commit, Path(folder, "earlier"))
        print(f"{resolved('simplejpeg')}, one core, JPEG 800 x 600 to {SIDE} px")
        print("| quality | KB | way | images/s | against the commit | in each round |")
        print("|---|---|---|---|---|---|")
        pictures = {}
        for quality in QUALITIES:
            names = written(quality, folder)
            size = statistics.mean(Path(name).stat().st_size for name in names) / 1e3
            compare(f"{quality} | {size:.0f}", names, f"{folder}/earlier", arguments)
            pictures[f"quality {quality}"] = [Path(name).read_bytes() for name in names]
    if arguments.photos:
        files = sorted(Path(arguments.photos).rglob("*.jp*g"))
        pictures["photographs"] = [p.read_bytes() for p in files[:: max(1, len(files) // 200)]]
    differences(pictures)


def check_out(commit: str, folder: Path) -> None:
    """Put the package of ``commit`` into a folder."""
    archive = subprocess.run(
        ["git", "archive", commit, "apdist"], cwd=ROOT, check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def written(quality: int, folder: str) -> list[str]:
    """Files of eight pictures."""
    names = [f"{folder}/{quality}-{number}.jpg" for number in range(8)]
    for number, name in enumerate(names):
        Path(name).write_bytes(picture((0, number), quality).data)
    return names


def compare(label: str, names: list[str], earlier: str, arguments: argparse.Namespace) -> None:
    """Print a row for each way."""
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(worker(path, decoder, names))
            for name, path, decoder in (
                (f"commit {arguments.commit}", earlier, ""),
                ("pillow", str(ROOT), "pillow"),
                ("simplejpeg", str(ROOT), "simplejpeg"),
            )
        }
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(arguments.rounds + 1):
            for name, process in workers.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{arguments.images}\n")
                process.stdin.flush()
                seconds[name].append(float(process.stdout.readline()))
    units, *_ = seconds.values()
    for name, measured in seconds.items():
        ratios = [unit / one for unit, one in zip(units[1:], measured[1:], strict=True)]
        print(
            f"| {label} | {name} | {1 / statistics.median(measured[1:]):.0f} | "
            f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


@contextmanager
def worker(path: str, decoder: str, names: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that makes images with the package in ``path``."""
    program = WORKER.format(
        path=[path, *sys.path], decoder=decoder, names=names, augment=vars(AUGMENT), side=SIDE
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def differences(pictures: dict[str, list[bytes]]) -> None:
    """Print how far the fast decoder's images are from Pillow's, in values of 255."""
    still = AugmentConfig(min_scale=1, rotation_degrees=0, colour_jitter=0)
    inside = AugmentConfig(min_scale=0.4, rotation_degrees=0, flip_probability=0.5)
    print("\n| images | augmentation | mean | mean size | 99.9 % below | most | PSNR, dB |")
    print("|---|---|---|---|---|---|---|")
    for name, encoded in pictures.items():
        for word, augment in (
            ("none", still),
            ("crop and colours", inside),
            ("default", AugmentConfig()),
        ):
            print(f"| {name} | {word} | {difference(encoded, augment)} |")


def difference(encoded: list[bytes], augment: AugmentConfig) -> str:
    out, by = np.empty((2, 3, SIDE, SIDE), np.uint8), (fill_of("pillow"), fill_of("simplejpeg"))
    found = []
    for seed in range(max(60, len(encoded))):
        for place, fill in enumerate(by):
            fill(out[place], encoded[seed % len(encoded)], augment, seed)
        found.append(out[1].astype(np.int16) - out[0])
    all_of_it = np.concatenate([one.ravel() for one in found])
    size = np.abs(all_of_it)
    noise = 10 * np.log10(255**2 / np.square(all_of_it, dtype=np.float32).mean())
    return (
        f"{all_of_it.mean():+.2f} | {size.mean():.2f} | {np.percentile(size, 99.9):.0f} | "
        f"{size.max()} | {noise:.1f}"
    )


if __name__ == "__main__":
    main()
