"""A port that is held for workers, and for nobody else."""

from __future__ import annotations

import socket

import pytest

from headrace.server.transport.addresses import CannotListenError, addresses_to_bind
from headrace.server.workers.port import HeldPort


def test_only_those_who_share_the_port_can_bind_it() -> None:
    held = HeldPort("127.0.0.1", 0)
    port = int(held.addresses.shown.rpartition(":")[2])
    with pytest.raises(CannotListenError, match="already in use"):
        addresses_to_bind("127.0.0.1", port)
    with pytest.raises(CannotListenError, match="already in use"):
        HeldPort("127.0.0.1", port)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    workers = []
    for _ in range(2):
        worker = socket.socket()
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(("127.0.0.1", port))
        worker.listen()
        workers.append(worker)
    # Every connection comes to a worker, and none to the socket that does not listen.
    for _ in range(20):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    for worker in workers:
        worker.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    held.close()
    HeldPort("127.0.0.1", port).close()


def test_connections_of_an_earlier_server_are_no_obstacle() -> None:
    with socket.socket() as earlier:
        earlier.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        earlier.bind(("127.0.0.1", 0))
        earlier.listen()
        port = earlier.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = earlier.accept()
            accepted.close()  # so that this side waits
            assert client.recv(1) == b""
    with pytest.raises(OSError, match="in use"), socket.socket() as strict:
        strict.bind(("127.0.0.1", port))
    HeldPort("127.0.0.1", port).close()


def test_all_addresses_of_a_name_are_held() -> None:
    held = HeldPort("localhost", 0)
    for target in held.addresses.targets:
        host, _, port = target.rpartition(":")
        with pytest.raises(CannotListenError):
            addresses_to_bind(host, int(port))
    held.close()
