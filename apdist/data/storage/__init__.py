"""Files by address: a local path, ``s3://BUCKET/KEY``, or ``https://`` to read."""

from apdist.data.storage.errors import MissingError, RangeError, StorageError, shown
from apdist.data.storage.files import (
    absolute,
    append_bytes,
    exists,
    for_ray,
    is_empty,
    is_read_only,
    join,
    list_files,
    list_folders,
    local_path,
    local_target,
    open_stream,
    read_bytes,
    read_range,
    remove,
    version,
    write_bytes,
)
from apdist.data.storage.retries import RetryPolicy, configure
from apdist.data.storage.store import Version, trimmed
from apdist.data.storage.transfers import Counters, counters

__all__ = [
    "Counters",
    "MissingError",
    "RangeError",
    "RetryPolicy",
    "StorageError",
    "Version",
    "absolute",
    "append_bytes",
    "configure",
    "counters",
    "exists",
    "for_ray",
    "is_empty",
    "is_read_only",
    "join",
    "list_files",
    "list_folders",
    "local_path",
    "local_target",
    "open_stream",
    "read_bytes",
    "read_range",
    "remove",
    "shown",
    "trimmed",
    "version",
    "write_bytes",
]
