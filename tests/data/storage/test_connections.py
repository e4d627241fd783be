"""Whom a connection trusts."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError
from apdist.data.storage.connections import pool_for
from tests.data.storage.conftest import DATA
from tests.range_server import WebFile, range_server

pytestmark = pytest.mark.usefixtures("policy")


def test_a_certificate_that_nobody_knows_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with range_server(DATA, context) as file:
        with pytest.raises(StorageError, match="TLS failed, .* AWS_CA_BUNDLE"):
            storage.read_bytes(f"{file.address}/file.tar")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        assert storage.read_range(f"{file.address}/file.tar", 5, 5) == DATA[5:10]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_certificates_that_is_none_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with pytest.raises(StorageError, match=r"AWS_CA_BUNDLE is .*/ca.pem, which holds no certif"):
        storage.read_bytes("https://127.0.0.1:1/file")


def test_a_connection_is_used_again(web: WebFile) -> None:
    uri = f"{web.address}/file.tar"
    for offset in range(0, 50, 10):
        assert storage.read_range(uri, offset, 10) == DATA[offset : offset + 10]
    assert pool_for(uri).connection_from_url(uri).num_connections == 1


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
