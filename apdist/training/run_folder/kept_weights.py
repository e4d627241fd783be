"""Weights that a run keeps beside its checkpoints: the chosen ones so far, and those at the start.

A file ``weights/<sha256>.safetensors``, named by its content; markers of checkpoints name the files
that they need.
"""

import hashlib
import re
from collections.abc import Collection

from safetensors.torch import load, save
from torch import Tensor

from apdist.data import storage

FOLDER = "weights"
START, CHOSEN = "start", "chosen"
"""What weights are kept for."""
_ENDING = ".safetensors"
_NAME = re.compile(r"[0-9a-f]{64}")


def packed(state: dict[str, Tensor]) -> tuple[str, bytes]:
    """Name and content of the file with ``state``."""
    content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    return hashlib.sha256(content).hexdigest(), content


def write_weights(run: str, name: str, content: bytes) -> None:
    """Write what `packed` gave, unless it is there."""
    uri = _uri(run, name)
    if not storage.exists(uri):
        storage.write_bytes(uri, content)


def read_weights(run: str, name: str) -> dict[str, Tensor]:
    """The state of that name, in the same order on every worker, as collectives need it.

    Raises:
        ValueError: its file is damaged, or gone.
    """
    uri = _uri(run, name)
    content = storage.read_bytes(uri) if storage.exists(uri) else b""
    if hashlib.sha256(content).hexdigest() != name:
        raise ValueError(
            f"{uri} is {'damaged' if content else 'missing'}: the weights that this run has "
            "chosen so far, or those at its start; put the file back"
        )
    return dict(sorted(load(content).items()))


def copy_weights(run: str, other: str, name: str) -> None:
    """Have the run ``other`` keep the weights of that name, too."""
    write_weights(other, name, storage.read_bytes(_uri(run, name)))


def prune_weights(run: str, used: Collection[str]) -> None:
    """Delete what no checkpoint needs any more."""
    folder = storage.join(run, FOLDER)
    for file in storage.list_files(folder):
        if file.endswith(_ENDING) and file.removesuffix(_ENDING) not in used:
            storage.remove(storage.join(folder, file))


def _uri(run: str, name: str) -> str:
    if not _NAME.fullmatch(name):  # a checkpoint's marker says it
        raise ValueError(f"{name[:100]!r} is no name of kept weights; expected a SHA-256 checksum")
    return storage.join(run, f"{FOLDER}/{name}{_ENDING}")
