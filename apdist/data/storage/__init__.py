"""Bytes by address: a local path, ``s3://bucket/key``, or ``https://`` to read."""

from apdist.data.storage.errors import MissingError, RangeError, StorageError, shown
from apdist.data.storage.files import (
    exists,
    is_empty,
    is_remote,
    join,
    list_files,
    list_folders,
    local_target,
    open_stream,
    ray_filesystem,
    read_bytes,
    read_range,
    remove,
    size_and_etag,
    write_bytes,
)
from apdist.data.storage.retries import RetryPolicy, configure
from apdist.data.storage.transfers import Counters, counters

__all__ = [
    "Counters",
    "MissingError",
    "RangeError",
    "RetryPolicy",
    "StorageError",
    "configure",
    "counters",
    "exists",
    "is_empty",
    "is_remote",
    "join",
    "list_files",
    "list_folders",
    "local_target",
    "open_stream",
    "ray_filesystem",
    "read_bytes",
    "read_range",
    "remove",
    "shown",
    "size_and_etag",
    "write_bytes",
]
