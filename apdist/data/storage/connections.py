"""Connections of this process to web servers: kept open, through a proxy, with trusted TLS."""

import functools
import logging
import os
import ssl
import urllib.request
from urllib.parse import urlsplit

import urllib3

from apdist.data.storage.errors import StorageError
from apdist.data.storage.process_cache import cached_per_process

NUM_CONNECTIONS = 32
"""Idle connections kept open to one server."""


def pool_for(url: str) -> urllib3.PoolManager:
    """The connections by which ``url`` is reached."""
    parts = urlsplit(url)
    proxy = _proxy_of(parts.scheme, parts.hostname or "")
    return _pool(proxy, os.environ.get("AWS_CA_BUNDLE", ""))


@cached_per_process
def _pool(proxy: str, bundle: str) -> urllib3.PoolManager:
    from botocore.httpsession import get_cert_path

    logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
    # The system's authorities, and botocore's for containers that have none.
    context = ssl.create_default_context()
    context.load_verify_locations(get_cert_path(True))
    if bundle:
        _trust(context, bundle)
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=NUM_CONNECTIONS, ssl_context=context)
    return urllib3.PoolManager(maxsize=NUM_CONNECTIONS, ssl_context=context)


def _trust(context: ssl.SSLContext, bundle: str) -> None:
    try:
        context.load_verify_locations(bundle)
    except OSError as error:  # an SSLError is one
        raise StorageError(
            f"AWS_CA_BUNDLE is {bundle}, which holds no certificates that can be read "
            f"({error.strerror}); give a file of certificates (PEM), or unset it"
        ) from error


@functools.lru_cache(maxsize=64)
def _proxy_of(scheme: str, host: str) -> str:
    if urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get(scheme, "")


def _without_query(record: logging.LogRecord) -> bool:
    """Strip queries from urllib3's debugging messages: that of a signed address is a secret."""
    if isinstance(record.args, tuple):
        record.args = tuple(a.partition("?")[0] if isinstance(a, str) else a for a in record.args)
    return True
