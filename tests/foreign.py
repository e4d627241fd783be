"""Shards as others write them: `webdataset`, GNU tar, Python's tarfile."""

import io
import json
import subprocess
import tarfile
import warnings
from pathlib import Path

from tests.pictures import encoded, picture

Files = list[tuple[str, bytes]]


def sample(key: str, label: int, number: int, **fields: object) -> Files:
    """The files of one sample with image, class, class name and metadata."""
    return [
        (f"{key}.jpg", encoded(picture(label, number), "JPEG")),
        (f"{key}.cls", str(label).encode()),
        (f"{key}.txt", f"name {label}".encode()),
        (f"{key}.json", json.dumps({"label": f"class {label}", **fields}).encode()),
    ]


def samples(num_classes: int = 4, images_per_class: int = 3) -> Files:
    pairs = [(label, n) for label in range(num_classes) for n in range(images_per_class)]
    return [file for label, n in pairs for file in sample(f"c{label}/{n:04d}", label, n)]


def write_tar(path: Path, files: Files, kind: int = tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_with_webdataset(path: Path, files: Files) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webdataset's own imports
        from webdataset.writer import TarWriter

        with path.open("wb") as file, TarWriter(file) as writer:
            for key in dict.fromkeys(name.partition(".")[0] for name, _ in files):
                members = {n[len(key) + 1 :]: d for n, d in files if n.partition(".")[0] == key}
                writer.write({"__key__": key, **members})


def write_with_gnu_tar(path: Path, files: Files, kind: str, prefix: str = "./") -> None:
    """Directories, `./` before each name, long names as GNU or pax headers."""
    root = path.parent / f"{path.stem} files"
    for name, data in files:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    what = ["."] if prefix else sorted(p.name for p in root.iterdir())
    subprocess.run(
        ["tar", f"--format={kind}", "--sort=name", "-cf", str(path), "-C", str(root), *what],
        check=True,
    )


def read_with_tarfile(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]
