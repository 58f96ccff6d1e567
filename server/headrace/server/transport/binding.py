"""Binding a server to its addresses."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from headrace.server.transport.addresses import CannotListenError, addresses_to_bind
from headrace.server.transport.credentials import CurrentCertificates, server_credentials


def bind(
    host: str,
    port: int,
    certificates: CurrentCertificates | None,
    add_port: Callable[[str, grpc.ServerCredentials | None], int],
) -> str:
    """Bind all addresses of a host, and return the address for clients. Port 0 picks a free one.

    With `certificates` all are encrypted. `add_port` is gRPC's: it returns 0, or raises RuntimeError, for what it
    cannot bind. Raises CannotListenError.
    """
    addresses = addresses_to_bind(host, port)
    for target in addresses.targets:
        try:
            bound = add_port(target, None if certificates is None else server_credentials(certificates))
        except RuntimeError:
            bound = 0
        if not bound:
            raise CannotListenError(addresses.shown, "gRPC cannot bind it; its own message says why")
    return addresses.shown
