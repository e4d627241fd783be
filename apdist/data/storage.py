"""Open, list, read and write files by URI: local paths and ``s3://bucket/key`` (boto3).

Credentials and endpoint come from boto3's usual chain (``AWS_ENDPOINT_URL`` for MinIO, Ceph,
SeaweedFS, R2). A read that breaks off is resumed at the byte it reached.
"""

import functools
import io
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

logger = logging.getLogger(__name__)

READ_DEADLINE_S = 120.0
"""Seconds after which a read that keeps failing gives up."""
FIRST_WAIT_S = 0.2
BLOCK_BYTES = 1 << 20


class StorageError(OSError):
    """A file or object cannot be listed, read or written; the message says why and what to do."""


def is_remote(uri: str) -> bool:
    """Whether ``uri`` lies in object storage."""
    return uri.startswith("s3://")


def join(root: str, name: str) -> str:
    """``name`` under ``root``; an absolute or remote ``name`` stays as it is."""
    if is_remote(name) or os.path.isabs(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_remote(root) else str(Path(root) / name)


def list_files(root: str, suffix: str = "") -> list[str]:
    """Names of the files directly under ``root`` that end with ``suffix``, sorted."""
    if not is_remote(root):
        folder = Path(root)
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.is_file() and p.name.endswith(suffix))
    bucket, prefix = _split(root.rstrip("/") + "/")
    with _explained(root):
        pages = (
            _client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        )
        names = [o["Key"][len(prefix) :] for page in pages for o in page.get("Contents", ())]
    return sorted(name for name in names if name and name.endswith(suffix))


def list_folders(root: str) -> list[str]:
    """Names of the folders directly under ``root``, sorted."""
    if not is_remote(root):
        folder = Path(root)
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    bucket, prefix = _split(root.rstrip("/") + "/")
    with _explained(root):
        pages = (
            _client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        )
        found = [o["Prefix"][len(prefix) : -1] for p in pages for o in p.get("CommonPrefixes", ())]
    return sorted(found)


def is_empty(root: str) -> bool:
    """Whether nothing lies under ``root`` (a folder that does not exist is empty)."""
    if not is_remote(root):
        folder = Path(root)
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    bucket, prefix = _split(root.rstrip("/") + "/")
    with _explained(root):
        answer = _client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return int(answer["KeyCount"]) == 0


def exists(uri: str) -> bool:
    """Whether a file lies at ``uri``."""
    if not is_remote(uri):
        return Path(uri).is_file()
    bucket, key = _split(uri)
    from botocore.exceptions import ClientError

    with _explained(uri):
        try:
            _client().head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
    return True


def size_and_etag(uri: str) -> tuple[int, str]:
    """Size in bytes and ETag (empty for a local file)."""
    with _explained(uri):
        if not is_remote(uri):
            return Path(uri).stat().st_size, ""
        bucket, key = _split(uri)
        head = _client().head_object(Bucket=bucket, Key=key)
        return int(head["ContentLength"]), str(head["ETag"]).strip('"')


def read_bytes(uri: str) -> bytes:
    """The whole file."""
    with open_stream(uri) as stream:
        return stream.read()


def read_range(uri: str, offset: int, size: int, etag: str = "") -> bytes:
    """``size`` bytes from ``offset``.

    Raises:
        StorageError: missing, not allowed, shorter than expected, or changed (another ``etag``).
    """
    if not is_remote(uri):
        with _explained(uri), open(uri, "rb") as file:
            block = os.pread(file.fileno(), size, offset)
    else:
        with ResumingReader(uri, offset=offset, size=size, etag=etag) as reader:
            block = reader.read()
    if len(block) != size:
        raise StorageError(
            f"{uri} ends {size - len(block)} bytes early (wanted {size} bytes at {offset}); "
            "the shard was truncated or replaced: prepare or index the data again"
        )
    return block


def open_stream(uri: str) -> IO[bytes]:
    """A readable binary stream from the first byte."""
    if not is_remote(uri):
        with _explained(uri):
            return open(uri, "rb")
    return io.BufferedReader(ResumingReader(uri), BLOCK_BYTES)


def write_bytes(uri: str, data: bytes) -> None:
    """Write ``data`` whole or not at all."""
    if is_remote(uri):
        bucket, key = _split(uri)
        with _explained(uri):
            _client().put_object(Bucket=bucket, Key=key, Body=data)
        return
    with local_target(uri) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise StorageError(
                f"{uri} cannot be written ({error.strerror}); make room there, or choose another "
                "folder that you may write to"
            ) from error


def remove(uri: str) -> None:
    """Delete the file at ``uri`` if there is one."""
    if not is_remote(uri):
        path = Path(uri)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()  # as in object storage, a folder is there as long as a file is
        return
    bucket, key = _split(uri)
    with _explained(uri):
        _client().delete_object(Bucket=bucket, Key=key)


@contextmanager
def local_target(uri: str) -> Iterator[Path]:
    """A temporary local path whose file becomes ``uri`` when the block ends without an error."""
    folder = Path(tempfile.gettempdir()) if is_remote(uri) else Path(uri).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); check the path") from error
    temporary = folder / f".{Path(uri).name}.{os.getpid()}.{random.getrandbits(32):08x}.tmp"
    try:
        yield temporary
        if is_remote(uri):
            bucket, key = _split(uri)
            with _explained(uri):
                _client().upload_file(str(temporary), bucket, key)
        else:
            temporary.replace(uri)
    finally:
        temporary.unlink(missing_ok=True)


class ResumingReader(io.RawIOBase):
    """Bytes of an object; a connection that breaks is opened again at the byte reached.

    The second connection carries If-Match, so an object that was replaced in between is an error
    and never a mixture of two versions.
    """

    def __init__(self, uri: str, *, offset: int = 0, size: int = -1, etag: str = "") -> None:
        self.uri, self.position, self.etag = uri, offset, etag
        self.end = offset + size if size >= 0 else -1
        self.body: Any = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with the next bytes; 0 at the end."""
        started, attempt = time.monotonic(), 0
        while True:
            try:
                block = self._next(len(buffer))
                buffer[: len(block)] = block
                self.position += len(block)
                return len(block)
            except _transient_errors() as error:
                self._drop_body()
                wait_s = FIRST_WAIT_S * 2 ** min(attempt, 6) * random.uniform(0.5, 1.5)  # noqa: S311
                if time.monotonic() + wait_s - started > READ_DEADLINE_S:
                    raise StorageError(
                        f"{self.uri}: reading failed for {READ_DEADLINE_S:.0f} s at byte "
                        f"{self.position} ({error}); check the network and the server"
                    ) from error
                attempt += 1
                logger.warning("%s: %s; again in %.1f s", self.uri, error, wait_s)
                time.sleep(wait_s)

    def close(self) -> None:
        """Give the connection back."""
        self._drop_body()
        super().close()

    def _next(self, size: int) -> bytes:
        if 0 <= self.end <= self.position:
            return b""
        if self.body is None:
            self._connect()
        if self.body is None:
            return b""
        block: bytes = self.body.read(size)
        if not block and self.position < self.end:
            raise ConnectionError(f"connection closed at byte {self.position} of {self.end}")
        return block

    def _connect(self) -> None:
        bucket, key = _split(self.uri)
        last = str(self.end - 1) if self.end >= 0 else ""
        with _explained(self.uri):
            request: dict[str, Any] = {"Bucket": bucket, "Key": key}
            if self.etag:
                request["IfMatch"] = f'"{self.etag}"'
            if self.position or last:
                request["Range"] = f"bytes={self.position}-{last}"
            answer = _client().get_object(**request)
        self.etag = str(answer["ETag"]).strip('"')
        self.body = answer["Body"]
        if self.end < 0:
            self.end = self.position + int(answer["ContentLength"])

    def _drop_body(self) -> None:
        if self.body is not None:
            self.body.close()
            self.body = None


def _split(uri: str) -> tuple[str, str]:
    parts = urlparse(uri)
    if not parts.netloc:
        raise StorageError(f"{uri!r} names no bucket; expected s3://BUCKET/PREFIX")
    return parts.netloc, parts.path.lstrip("/")


def _client() -> Any:
    return _client_of_process(os.getpid())


@functools.lru_cache(maxsize=2)
def _client_of_process(_pid: int) -> Any:  # a forked child must not share its parent's sockets
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": 6}
    return boto3.client(
        "s3",
        region_name=os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION"))
        or "us-east-1",
        config=Config(
            retries=retries, connect_timeout=10, read_timeout=30, max_pool_connections=32
        ),
    )


@functools.cache
def _transient_errors() -> tuple[type[Exception], ...]:
    import botocore.exceptions as botocore
    import urllib3.exceptions as urllib3

    return (
        ConnectionError,
        TimeoutError,
        urllib3.HTTPError,
        botocore.HTTPClientError,
        botocore.IncompleteReadError,
    )


_REMEDIES = {
    "NoSuchBucket": "the bucket does not exist; create it or correct the name",
    "NoSuchKey": "no such object; check the path",
    "404": "no such object; check the path",
    "AccessDenied": "access denied; the credentials lack the permission",
    "403": "access denied; the credentials lack the permission",
    "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session token has expired; log in again",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PermanentRedirect": "the bucket lies in another region; set AWS_REGION",
    "PreconditionFailed": "the object was replaced while it was read or since it was indexed; "
    "index the data again",
    "412": "the object was replaced since it was indexed; index the data again",
}


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn errors of boto3 and the file system into one line that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{uri} does not exist; check the path") from error
    except PermissionError as error:
        raise StorageError(f"{uri}: permission denied") from error
    except Exception as error:
        if not is_remote(uri):
            raise
        import botocore.exceptions as botocore

        if isinstance(error, botocore.ClientError):
            code = str(error.response["Error"].get("Code", ""))
            raise StorageError(f"{uri}: {_REMEDIES.get(code, str(error))}") from error
        if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
            raise StorageError(
                f"{uri}: no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "AWS_PROFILE, or give the machine a role"
            ) from error
        raise


def ray_filesystem(uri: str) -> Any:
    """The pyarrow file system that Ray should write checkpoints to ``uri`` with.

    pyarrow's own S3FileSystem forgets its retry strategy when it is pickled to the controller
    (apache/arrow#47348), so that an outage of seconds ends a run; this one keeps it.
    """
    if not is_remote(uri):
        return None
    from apdist.data.s3_filesystem import retrying_s3

    return retrying_s3()
