"""Random state by name: what is drawn depends on (run seed, step, chunk), never on the worker."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def chunk_seed(seed: int, step: int, chunk: int) -> int:
    """Seed of a chunk's random state, the same whoever computes the chunk."""
    digest = hashlib.blake2b(f"{seed}/{step}/{chunk}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from ``seed`` within the block; afterwards the random state is as before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
