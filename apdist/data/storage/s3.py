"""Objects of S3 and whatever speaks its protocol: read by urllib3, written and listed by boto3.

Each operation has one deadline. boto3's own retries are off, and a try gets no more time than is
left, so that they do not multiply it.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from apdist.data.storage.errors import StorageError, TransientError
from apdist.data.storage.retries import Attempts, retrying
from apdist.data.storage.s3_clients import clients_now, explained, signed_get
from apdist.data.storage.store import Store, trimmed
from apdist.data.storage.transfers import count
from apdist.data.storage.web import WebStore

PART_BYTES = 16 << 20
"""Larger objects are sent in parts of at least this size."""
MAX_PARTS = 10_000
NUM_SENDERS = 4
"""Parts under way at once; each is held in memory."""


class S3Store(WebStore, Store):
    """``s3://BUCKET/KEY`` addresses: read as from a web server, all else by boto3.

    Credentials and endpoint come from boto3's usual chain (``AWS_ENDPOINT_URL`` for MinIO, Ceph,
    SeaweedFS, R2).
    """

    address = "s3:// (AWS_ENDPOINT_URL for other providers)"

    def request(self, uri: str, etag: str) -> tuple[str, Mapping[str, str]]:
        """The object's URL, a signature, and the condition that it is the version ``etag``."""
        url, signature = signed_get(uri, *split(uri))
        return url, {**signature, "If-Match": f'"{etag}"'} if etag else signature

    def join(self, root: str, name: str) -> str:
        """``name`` under ``root``, which names a bucket."""
        split(root)
        return f"{trimmed(root)}/{name}"

    def list_names(self, root: str) -> tuple[list[str], list[str]]:
        """Names of the objects and of the folders directly under ``root``."""
        bucket, prefix = _prefix(root)
        files, folders = [], []
        for page in _pages(root, Bucket=bucket, Prefix=prefix, Delimiter="/"):
            files += [entry["Key"][len(prefix) :] for entry in page.get("Contents", ())]
            found = page.get("CommonPrefixes", ())
            folders += [entry["Prefix"][len(prefix) : -1] for entry in found]
        return [name for name in files if name], folders

    def is_empty(self, root: str) -> bool:
        """Whether no object's key begins with ``root/``."""
        bucket, prefix = _prefix(root)
        return not next(_pages(root, Bucket=bucket, Prefix=prefix, MaxKeys=1))["KeyCount"]

    def write(self, uri: str, data: bytes) -> None:
        """Write an object whole or not at all."""
        _write(uri, len(data), lambda offset, size: data[offset : offset + size])

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object under the condition that there is none."""
        bucket, key = split(uri)
        try:
            _call(uri, "put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except StorageError as error:
            if "PreconditionFailed" not in str(error):
                raise
            # An earlier try may have written it, and its answer was lost.
            with self.open_stream(uri, 0, "") as stream:
                return stream.read() == data
        count(bytes_written=len(data))
        return True

    def upload(self, uri: str, file: Path) -> None:
        """Write an object whole or not at all, a large one in parts."""

        def read(offset: int, size: int) -> bytes:
            with file.open("rb") as opened:
                return os.pread(opened.fileno(), size, offset)

        _write(uri, file.stat().st_size, read)

    def remove(self, uri: str) -> None:
        """Delete the object if it is there."""
        bucket, key = split(uri)
        _call(uri, "delete_object", Bucket=bucket, Key=key)

    def remove_unfinished(self, root: str) -> None:
        """Abort uploads in parts: they are listed nowhere, and paid for."""
        bucket, prefix = _prefix(root)
        with suppress(StorageError):  # that takes a permission which writing does not
            answer = _call(root, "list_multipart_uploads", Bucket=bucket, Prefix=prefix)
            for upload in answer.get("Uploads", ()):
                this = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                _call(root, "abort_multipart_upload", **this)

    def for_ray(self, uri: str) -> tuple[str, Any]:
        """``BUCKET/KEY``, and a file system that keeps its retries when it is pickled.

        pyarrow's own S3FileSystem forgets its retry strategy on the way to Ray's controller
        (apache/arrow#47348), so that an outage of seconds would end a run.
        """
        from apdist.data.storage.s3_filesystem import RetryingS3FileSystem

        return uri.removeprefix("s3://"), RetryingS3FileSystem()


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StorageError(f"{uri!r} names no bucket; expected s3://BUCKET/PREFIX")
    return bucket, key


def _prefix(root: str) -> tuple[str, str]:
    """Bucket, and how keys under ``root`` begin."""
    bucket, key = split(root)
    return bucket, f"{key.rstrip('/')}/" if key.strip("/") else ""


def _write(uri: str, size: int, read: Callable[[int, int], bytes]) -> None:
    """Write the ``size`` bytes that ``read`` gives by offset and number."""
    bucket, key = split(uri)
    if size > PART_BYTES:
        _write_parts(uri, size, read)
    else:
        _call(uri, "put_object", Bucket=bucket, Key=key, Body=read(0, size))
    count(bytes_written=size)


def _write_parts(uri: str, size: int, read: Callable[[int, int], bytes]) -> None:
    bucket, key = split(uri)
    part_bytes = max(PART_BYTES, math.ceil(size / MAX_PARTS))
    num_parts = math.ceil(size / part_bytes)
    upload = _call(uri, "create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    this: dict[str, Any] = {"Bucket": bucket, "Key": key, "UploadId": upload}

    def send(number: int) -> dict[str, Any]:
        offset = (number - 1) * part_bytes
        body = read(offset, min(part_bytes, size - offset))
        answer = _call(uri, "upload_part", **this, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    pool = ThreadPoolExecutor(NUM_SENDERS, thread_name_prefix="sender")
    try:
        parts = list(pool.map(send, range(1, num_parts + 1)))
        _complete(uri, this, parts)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        with suppress(StorageError):  # the first error is the one to report
            _call(uri, "abort_multipart_upload", **this)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _complete(uri: str, this: Mapping[str, Any], parts: list[dict[str, Any]]) -> None:
    try:
        _call(uri, "complete_multipart_upload", **this, MultipartUpload={"Parts": parts})
    except StorageError as error:
        if "NoSuchUpload" not in str(error):
            raise
        # An earlier try did complete it, and its answer was lost; the ETag counts the parts.
        head = _call(uri, "head_object", Bucket=this["Bucket"], Key=this["Key"])
        if not head["ETag"].strip('"').endswith(f"-{len(parts)}"):
            raise


def _pages(root: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = _call(root, "list_objects_v2", **arguments, **token)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


_WHOLE_ANSWER_HAS = {
    **dict.fromkeys(["put_object", "upload_part", "head_object"], ("ETag",)),
    "complete_multipart_upload": ("ETag",),
    "create_multipart_upload": ("UploadId",),
    "list_objects_v2": ("Name", "IsTruncated", "KeyCount"),
}
"""Operation to fields, of which every complete answer has at least one. boto3 raises nothing if a
connection ends within the head of an answer, and a list without its body would pass for an empty
folder."""


def _call(uri: str, operation: str, **arguments: Any) -> dict[str, Any]:
    def once(attempts: Attempts) -> dict[str, Any]:
        count(requests=1)
        with explained(uri):
            client = clients_now().client(_try_timeout_s(attempts))
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        if operation in _WHOLE_ANSWER_HAS and not any(
            name in answer for name in _WHOLE_ANSWER_HAS[operation]
        ):
            raise TransientError("an answer that was cut off")
        return answer

    return retrying(uri, once)


def _try_timeout_s(attempts: Attempts) -> float:
    """Time for a try that ends before the deadline: 32, 8, 2, 0.5 ... s, each a client's."""
    policy = attempts.policy
    longest_s = min(policy.silence_timeout_s + policy.connect_timeout_s, attempts.left_s())
    return 2.0 ** (2 * math.floor((math.log2(longest_s) - 1) / 2) + 1)
