"""The addresses to listen on: what `--host` and `--port` mean on this machine, checked before gRPC binds them.

gRPC is content if one of several addresses can be bound, deletes the socket of a live server when its path is bound
again, and does not report why an address cannot be bound.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

UNIX, ABSTRACT = "unix:", "unix-abstract:"
_MAX_TRIES = 16
"""Free ports to try for a host with several addresses."""
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""The machine does not have the address, or no addresses of its family at all."""

_SocketAddress: TypeAlias = tuple[socket.AddressFamily, Any]
"""A family, and an address as sockets of that family take it."""


class CannotListenError(Exception):
    """The message is one sentence for the operator: the address and the cause."""

    def __init__(self, shown: str, cause: str) -> None:
        super().__init__(f"cannot listen on {shown}: {cause}")


@dataclass(frozen=True, slots=True)
class Addresses:
    """`targets` are for gRPC to bind, `shown` is for clients to connect to."""

    targets: Sequence[str]
    shown: str


def addresses_to_bind(host: str, port: int) -> Addresses:
    """The addresses of a host name, an IPv4 or IPv6 address, `unix:PATH`, or `unix-abstract:NAME`.

    Port 0 becomes one that is free on all of them. Raises CannotListenError if one of them cannot be bound.
    """
    if host.startswith(ABSTRACT):
        return _abstract(host)
    if host.startswith(UNIX):
        return _path(os.path.abspath(host.removeprefix(UNIX)))
    return _host(host[1:-1] if host.startswith("[") and host.endswith("]") else host, port)


def is_local(host: str) -> bool:
    """Whether only this machine can reach a host, as `addresses_to_bind` takes it."""
    if host.startswith((UNIX, ABSTRACT)):
        return True
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _host(host: str, port: int) -> Addresses:
    shown = _join(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not a valid name"
        raise CannotListenError(shown, f"{host} cannot be resolved ({cause})") from None
    resolved = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    # A port that is free on one address may be taken on the next.
    tries = _MAX_TRIES if port == 0 and len(resolved) > 1 else 1
    while True:
        tries -= 1
        try:
            targets, bound = _try_to_bind(resolved, port, shown)
            return Addresses(targets, _join(host, bound))
        except _TakenError:
            if not tries:
                raise


class _TakenError(CannotListenError):
    pass


def _try_to_bind(resolved: Sequence[_SocketAddress], port: int, shown: str) -> tuple[Sequence[str], int]:
    """Bind all addresses for a moment. Returns those that this machine has, and the port.

    A name may have addresses that the machine does not: localhost often has ::1 where IPv6 is off.
    """
    targets: list[str] = []
    with ExitStack() as bound:
        for family, (host, _, *rest) in resolved:
            try:
                probe = bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
                # As gRPC does it: connections of an earlier server are no obstacle, and :: includes IPv4.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                probe.bind((host, port, *rest))
            except OSError as error:
                if error.errno in _NOT_HERE:
                    continue
                if error.errno == errno.EADDRINUSE:
                    raise _TakenError(shown, f"port {port} of {host} is already in use") from None
                if error.errno == errno.EACCES:
                    raise CannotListenError(shown, f"this user may not use port {port}") from None
                raise CannotListenError(shown, f"{host}: {error.strerror}") from None
            port = probe.getsockname()[1]
            targets.append(_join(host, port))
    if not targets:
        raise CannotListenError(shown, f"this machine does not have the address {resolved[0][1][0]}")
    return targets, port


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _path(path: str) -> Addresses:
    """A socket file. That of a server that has ended is removed."""
    target = UNIX + quote(path)
    try:
        _make_way(path, target)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
        os.unlink(path)
    except OSError as error:
        # Without errno: the path is too long.
        raise CannotListenError(target, error.strerror or str(error)) from None
    return Addresses([target], target)


def _make_way(path: str, target: str) -> None:
    """Remove the socket at a path unless a server listens on it. Raises CannotListenError, and OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotListenError(target, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as client:
        # A server that is busy would make a blocking socket wait.
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise CannotListenError(target, "a server already listens there")


def _abstract(target: str) -> Addresses:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind("\0" + target.removeprefix(ABSTRACT))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        cause = "a server already listens there" if taken else error.strerror or str(error)
        raise CannotListenError(target, cause) from None
    return Addresses([target], target)
