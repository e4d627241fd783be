"""An S3 file system for Ray's checkpoints that keeps its retry strategy when it is pickled."""

import os

import boto3
from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem


class RetryingS3FileSystem(S3FileSystem):  # type: ignore[misc]
    """``S3FileSystem`` built from the environment of the process that uses it.

    Pickling carries no argument, so neither a credential nor a lost retry strategy travels: each
    process asks boto3's chain and makes its own client.
    """

    def __init__(self) -> None:
        credentials = boto3.Session().get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials else None
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        super().__init__(
            access_key=frozen.access_key if frozen else None,
            secret_key=frozen.secret_key if frozen else None,
            session_token=frozen.token if frozen else None,
            endpoint_override=endpoint or None,
            region=os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1",
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=20),
        )

    def __reduce__(self) -> tuple[type["RetryingS3FileSystem"], tuple[()]]:
        return type(self), ()
