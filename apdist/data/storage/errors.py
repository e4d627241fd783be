"""What goes wrong in storage, in one line that says what to do and gives no secret away."""

import re

import urllib3.exceptions as urllib3

from apdist.addresses import shown


class StorageError(OSError):
    """A file or object cannot be listed, read or written; the message says why and what to do."""


class MissingError(StorageError):
    """There is no such file or object; its bucket is there."""


class RangeError(StorageError):
    """The file ends before the last byte that was asked for."""


class TransientError(Exception):
    """The network or the server failed in a way that may pass; never leaves the storage modules."""


class NobodyThereError(TransientError):
    """The machine refuses the connection: no server listens at that port."""


def is_transient(status: int, code: str = "") -> bool:
    """Whether an answer with this HTTP status and S3 error code is worth another try."""
    return status in (307, 408, 425, 429) or status >= 500 or code in _TRANSIENT_CODES


def refusal(uri: str, status: int, code: str = "") -> StorageError:
    """The error for an answer that another try would not change.

    Args:
        uri: what was asked for.
        status: HTTP status.
        code: S3's error code; empty where there is none.
    """
    remedy = _REMEDIES.get(code) or _STATUS_REMEDIES.get(status)
    told = f"HTTP {status} {code}".rstrip()
    kind: type[StorageError] = RangeError if status == 416 else StorageError
    if code == "NoSuchKey" or (status == 404 and not code):
        kind = MissingError
    return kind(f"{shown(uri)}: {remedy} ({told})" if remedy else f"{shown(uri)}: refused, {told}")


def broken(error: BaseException) -> TransientError:
    """What broke, for another try."""
    told = cause(error)
    kind = NobodyThereError if "connection refused" in told else TransientError
    return kind(told)


def cause(error: BaseException) -> str:
    """What broke, without the address that urllib3 and botocore put into their texts."""
    inner = getattr(error, "kwargs", {}).get("error")  # botocore keeps what it wraps there
    if isinstance(inner, BaseException):
        return cause(inner)
    if isinstance(error, urllib3.NameResolutionError):
        host = re.search(r"resolve '([^']+)'", str(error))
        name = f" {host[1]}" if host else ""
        return f"the name{name} cannot be resolved; check the address and DNS"
    if isinstance(error, urllib3.ProxyError):
        return f"the proxy failed ({cause(error.original_error)}); check HTTPS_PROXY, HTTP_PROXY"
    if isinstance(error, urllib3.NewConnectionError):  # a kind of the next one
        reason = getattr(error.__cause__, "strerror", "") or "failed"
        return f"no connection ({reason.lower()})"
    if isinstance(error, urllib3.ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, urllib3.ReadTimeoutError | TimeoutError):
        return "the server went silent"
    return f"connection broken ({type(error).__name__})"


def certificate_refused(error: BaseException) -> bool:
    """Whether TLS failed because the certificate is not trusted, which no other try mends."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def replaced(uri: str) -> StorageError:
    """The error for a file that is not the version that was asked for."""
    return StorageError(
        f"{shown(uri)} was replaced while it was read, or since its catalogue was written; "
        "prepare or index the data again"
    )


def untrusted(uri: str) -> StorageError:
    """The error for a certificate that is not trusted."""
    return StorageError(
        f"{shown(uri)}: TLS failed, the server's certificate is not trusted; check the address "
        "and the clock, or name your authority's certificates in AWS_CA_BUNDLE"
    )


_TRANSIENT_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_REGION = "the bucket lies in another region; set AWS_REGION"
_REPLACED = (
    "the object was replaced while it was read, or since its catalogue was written; prepare or "
    "index the data again"
)
_DENIED = (
    "access denied; the credentials lack the permission (without the permission to list, "
    "a missing object looks the same)"
)
_EXPIRED = "the session token has expired or is wrong; log in again"
_CLOCK = "the clock of this machine is wrong; set it"

_REMEDIES = {
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": _EXPIRED,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
    "InvalidBucketName": "no valid bucket name; expected s3://BUCKET/PREFIX",
    "InvalidObjectState": "the object is archived; restore it from the archive first",
    "InvalidToken": _EXPIRED,
    "NoSuchBucket": "the bucket does not exist; create it or correct the name",
    "NoSuchKey": "no such object; check the path",
    "PermanentRedirect": _REGION,
    "PreconditionFailed": _REPLACED,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "TokenRefreshRequired": _EXPIRED,
}
_STATUS_REMEDIES = {
    301: _REGION,
    401: "access denied; a password or a signature is missing or has expired",
    403: "access denied; the credentials lack the permission, or a signed address has expired",
    404: "no such file; check the path",
    410: "the file is gone; check the path",
    412: _REPLACED,
    416: "ends before that byte; it was truncated or replaced: prepare or index the data again",
}
