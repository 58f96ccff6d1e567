"""Binding a server to its addresses."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from headrace.server.transport.addresses import Addresses, CannotListenError
from headrace.server.transport.credentials import CurrentCertificates, server_credentials


def bind(
    addresses: Addresses,
    certificates: CurrentCertificates | None,
    add_port: Callable[[str, grpc.ServerCredentials | None], int],
) -> None:
    """Bind all of the addresses.

    With `certificates` all are encrypted. `add_port` is gRPC's: it returns 0, or raises RuntimeError, for what it
    cannot bind. Raises CannotListenError.
    """
    for target in addresses.targets:
        try:
            bound = add_port(target, None if certificates is None else server_credentials(certificates))
        except RuntimeError:
            bound = 0
        if not bound:
            raise CannotListenError(addresses.shown, "gRPC cannot bind it; its own message says why")
