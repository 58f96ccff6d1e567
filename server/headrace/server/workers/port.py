"""The port that workers share: nobody else gets it, although it can be bound more than once."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from headrace.server.transport.addresses import Addresses, CannotListenError, addresses_to_bind


class HeldPort:
    """Binds all addresses of a host, and holds them until `close`, without listening.

    They are bound like those of any server, so that one that is taken cannot be bound, nor can others bind them while
    they are held. Only then are they made to be shared, with processes of the same user that say that they share, too.
    Raises CannotListenError.
    """

    def __init__(self, host: str, port: int) -> None:
        self.addresses: Addresses = addresses_to_bind(host, port)
        with ExitStack() as stack:
            for target in self.addresses.targets:
                stack.enter_context(_bound(target, self.addresses.shown))
            self._sockets = stack.pop_all()

    def close(self) -> None:
        self._sockets.close()

    def __repr__(self) -> str:
        return f"<HeldPort {self.addresses.shown}>"


def _bound(target: str, shown: str) -> socket.socket:
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, int(port)))
        # As it is bound now, connections of an earlier server are no obstacle. But others that reuse addresses would
        # be none, either, as long as nobody listens: the kernel remembers that all who have bound the port do. It
        # forgets that when one of them listens, which ends before a connection can be made.
        sock.listen(1)
        sock.shutdown(socket.SHUT_RDWR)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        sock.close()
        cause = f"port {port} of {host} is already in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise CannotListenError(shown, cause or str(error)) from None
    return sock
