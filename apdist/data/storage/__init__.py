"""Files by address: a local path, ``s3://BUCKET/KEY``, or ``https://`` to read."""

from apdist.addresses import shown
from apdist.data.storage.errors import MissingError, RangeError, StorageError
from apdist.data.storage.files import (
    absence,
    absolute,
    append_bytes,
    create,
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
    remove_unfinished,
    version,
    write_bytes,
)
from apdist.data.storage.retries import RetryPolicy, at_most, configure
from apdist.data.storage.store import Version, trimmed
from apdist.data.storage.transfers import Counters, counters

__all__ = [
    "Counters",
    "MissingError",
    "RangeError",
    "RetryPolicy",
    "StorageError",
    "Version",
    "absence",
    "absolute",
    "append_bytes",
    "at_most",
    "configure",
    "counters",
    "create",
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
    "remove_unfinished",
    "shown",
    "trimmed",
    "version",
    "write_bytes",
]
