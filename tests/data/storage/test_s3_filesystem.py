"""The file system that Ray's checkpoints go through."""

import pickle

import pytest

from apdist.data.storage.s3_filesystem import RetryingS3FileSystem


def test_neither_keys_nor_the_endpoint_travel_in_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "our-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "our-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://our-host:1")
    sent = pickle.dumps(RetryingS3FileSystem())
    assert b"our-" not in sent
    assert isinstance(pickle.loads(sent), RetryingS3FileSystem)
