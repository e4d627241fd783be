"""Which store an address belongs to; a new store is a file with its class and a line here."""

import re

from apdist.addresses import shown
from apdist.data.storage.errors import StorageError
from apdist.data.storage.local import LocalStore
from apdist.data.storage.s3 import S3Store
from apdist.data.storage.store import ReadableStore, Store
from apdist.data.storage.web import WebStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

STORES: dict[str, ReadableStore] = {
    "": LocalStore(),
    "s3": S3Store(),
    "https": WebStore(),
    "http": WebStore(),
}
"""The store for each scheme; addresses without one are local paths."""


def store_of(uri: str) -> ReadableStore:
    """The store that ``uri`` belongs to.

    Raises:
        StorageError: its scheme is not known, or nothing can have that name.
    """
    if "\0" in uri:
        raise StorageError(f"{shown(uri)!r} has a zero byte in it, as no file's name; check it")
    found = _SCHEME.match(uri)
    store = STORES.get(found[1] if found else "")
    if store is None:
        scheme = uri.partition("://")[0]
        local, *others = dict.fromkeys(store.address for store in STORES.values())
        raise StorageError(
            f"{scheme}:// is not known (in {shown(uri)!r}); use {', '.join(others)}, or {local}"
        )
    return store


def full_store_of(uri: str, what: str) -> Store:
    """The store that ``uri`` belongs to, for more than reading by name.

    Raises:
        StorageError: its scheme is not known, or ``what`` is not possible there.
    """
    store = store_of(uri)
    if not isinstance(store, Store):
        raise StorageError(
            f"{shown(uri)}: {what} is not possible over {uri.partition('://')[0]}, which serves to "
            "read files whose names are known; use s3:// or a local path"
        )
    return store
