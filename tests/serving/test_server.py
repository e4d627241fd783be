import socket
from urllib.parse import urlsplit

import pytest

from apdist.serving.server import address_of, bound


def test_an_address_is_had_by_one_and_told() -> None:
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert address_of(sock) == f"http://127.0.0.1:{port}/"
        with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 is in use; give another"):
            bound("127.0.0.1", port)
        assert urlsplit(address_of(sock)).port == port


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="is no address of this machine"):
        bound("192.0.2.1", 0)
    with pytest.raises(ValueError, match="is no address of this machine"):
        bound("no such name.invalid", 0)


def test_all_addresses_are_told_by_the_name_of_the_machine() -> None:
    with bound("0.0.0.0", 0) as sock:
        assert urlsplit(address_of(sock)).hostname == socket.gethostname().lower()
