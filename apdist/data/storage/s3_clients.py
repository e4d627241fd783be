"""boto3's clients for this process, their signatures, and their errors in our words."""

import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from apdist.data.storage.errors import (
    StorageError,
    TransientError,
    broken,
    certificate_refused,
    is_transient,
    refusal,
    untrusted,
)
from apdist.data.storage.process_cache import cached_per_process

_SETTINGS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
    *("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
"""Environment variables whose change takes effect at once."""
_SIGNATURE_S = 60
"""A signature is used so long; to make one takes a seventh of a read. S3 takes it for 15 min."""


def clients_now() -> "_Clients":
    """The clients for the environment as it is now."""
    return _clients(tuple(os.environ.get(name, "") for name in _SETTINGS))


@cached_per_process
def _clients(_settings: tuple[str, ...]) -> "_Clients":
    return _Clients()


class _Clients:
    """boto3's session of this process, and a client for each timeout."""

    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            self.session = boto3.Session()
            self.region = os.environ.get("AWS_REGION") or self.session.region_name or "us-east-1"
        except BotoCoreError as error:  # no such profile, a file that cannot be read
            raise StorageError(
                f"the settings for AWS cannot be used: {error}; correct AWS_PROFILE or the file"
            ) from error
        self.by_timeout: dict[float, Any] = {}
        self.urls: dict[tuple[str, str], str] = {}
        self.lock = threading.Lock()  # making clients is not safe in threads; using them is

    def client(self, timeout_s: float) -> Any:
        from botocore.config import Config

        with self.lock:
            if timeout_s not in self.by_timeout:
                self._refuse_broken_keys()
                once: Any = {"mode": "standard", "total_max_attempts": 1}
                config = Config(
                    retries=once,
                    connect_timeout=timeout_s / 4,
                    read_timeout=timeout_s * 3 / 4,
                    max_pool_connections=32,
                )
                with _endpoint_named():
                    self.by_timeout[timeout_s] = self.session.client(
                        "s3", region_name=self.region, config=config
                    )
            return self.by_timeout[timeout_s]

    def _refuse_broken_keys(self) -> None:
        """Keys that were copied with an end of line would break the header they are sent in."""
        from botocore.credentials import Credentials

        keys = self.session.get_credentials()
        if type(keys) is not Credentials:  # of a role: they come from a machine
            return
        for name, key in (
            ("AWS_ACCESS_KEY_ID", keys.access_key),
            ("AWS_SECRET_ACCESS_KEY", keys.secret_key),
            ("AWS_SESSION_TOKEN", keys.token),
        ):
            if key and key.split() != [key]:
                raise StorageError(f"{name} holds a space or an end of line; give it without")

    def url(self, bucket: str, key: str) -> str:
        """Where boto3 would ask for the object."""
        if (bucket, key) not in self.urls:
            signed = self.client(32.0).generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}
            )
            self.urls[bucket, key] = str(signed).partition("?")[0]
        return self.urls[bucket, key]


def signed_get(uri: str, bucket: str, key: str) -> tuple[str, Mapping[str, str]]:
    """Address of the object ``uri``, and headers that sign a GET request for any part of it.

    Only the host and the x-amz headers are signed, as in a presigned address: what part is asked
    for, and of which version, is compared with what comes back.
    """
    from botocore.exceptions import NoCredentialsError

    clients = clients_now()
    with explained(uri):
        url = clients.url(bucket, key)
        credentials = clients.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        now = int(time.time() // _SIGNATURE_S)
        return url, _signature(url, credentials.get_frozen_credentials(), clients.region, now)


@functools.lru_cache(maxsize=4096)
def _signature(url: str, credentials: Any, region: str, _now: int) -> Mapping[str, str]:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("GET", url)
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return MappingProxyType(dict(request.headers.items()))


@contextmanager
def _endpoint_named() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise StorageError(
            f"AWS_ENDPOINT_URL: {error}; expected http://HOST:PORT or https://HOST"
        ) from error


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn boto3's errors into ours."""
    import botocore.exceptions as botocore
    from botocore.parsers import ResponseParserError

    try:
        yield
    except botocore.ClientError as error:
        status = int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
        code = str(error.response["Error"].get("Code", ""))
        code = "" if code.isdigit() else code  # a HEAD request has no body to take it from
        if is_transient(status, code):
            raise TransientError(f"HTTP {status} {code}".rstrip()) from error
        raise refusal(uri, status, code) from error
    except (botocore.NoCredentialsError, botocore.PartialCredentialsError) as error:
        raise StorageError(
            f"{uri}: no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "AWS_PROFILE, or give the machine a role"
        ) from error
    except (botocore.ConnectionError, botocore.HTTPClientError, ResponseParserError) as error:
        if certificate_refused(error):
            raise untrusted(uri) from error
        raise broken(error) from error
    except botocore.BotoCoreError as error:
        raise StorageError(f"{uri}: {error}") from error
