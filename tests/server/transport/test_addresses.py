"""Addresses that are bound for a moment: all that the machine has of a name, or none."""

from __future__ import annotations

import socket

import pytest

from headrace.server.transport.addresses import CannotListenError, _try_to_bind, is_local

FIRST = socket.AF_INET, ("127.0.0.1", 0)
SECOND = socket.AF_INET, ("127.0.0.2", 0)
ELSEWHERE = socket.AF_INET, ("192.0.2.1", 0)


def test_all_addresses_get_the_same_port() -> None:
    targets, port = _try_to_bind([FIRST, SECOND], 0, "name:0")
    assert targets == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]


@pytest.mark.parametrize("taken", ["127.0.0.1", "127.0.0.2"])
def test_each_address_must_be_free(taken: str) -> None:
    with socket.socket() as other:
        other.bind((taken, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError) as refused:
            _try_to_bind([FIRST, SECOND], port, f"name:{port}")
    assert str(refused.value) == f"cannot listen on name:{port}: port {port} of {taken} is already in use"


def test_an_address_that_the_machine_does_not_have_is_left_out() -> None:
    """As ::1 of localhost where IPv6 is off."""
    targets, port = _try_to_bind([ELSEWHERE, FIRST], 0, "name:0")
    assert targets == [f"127.0.0.1:{port}"]


def test_a_name_must_have_an_address_of_this_machine() -> None:
    with pytest.raises(CannotListenError) as refused:
        _try_to_bind([ELSEWHERE], 8001, "name:8001")
    assert str(refused.value) == "cannot listen on name:8001: this machine does not have the address 192.0.2.1"


def test_connections_of_an_earlier_server_are_no_obstacle() -> None:
    with socket.socket() as earlier:
        earlier.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        earlier.bind(("127.0.0.1", 0))
        earlier.listen()
        port = earlier.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = earlier.accept()
            accepted.close()  # the side that closes first waits
    assert _try_to_bind([FIRST], port, "name")[1] == port


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("[::1]", True),
        ("::1", True),
        ("unix:/run/s", True),
        ("unix-abstract:s", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("192.0.2.1", False),
        ("no such host", False),
    ],
)
def test_only_this_machine_reaches_a_local_host(host: str, local: bool) -> None:
    assert is_local(host) == local
