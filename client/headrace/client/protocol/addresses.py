"""Targets: one address of a server, or several joined by commas. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from headrace.wire.errors import quote

MAX_SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket."""

_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")
"""What gRPC takes before the first colon of an address."""
_HAS_SCHEME = re.compile(rf"({'|'.join(_SCHEMES)}):(?!\d+$)(.*)", re.DOTALL)
_IS_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/@\s]+):(\d+)")
_LOCAL_HOST = re.compile(r"localhost|.+\.localhost|127(\.\d+){3}|0\.0\.0\.0|\[(::1|::|::ffff:127(\.\d+){3})\]")


@dataclass(frozen=True, slots=True)
class Address:
    """An address as gRPC takes it. `local`: on this machine. `spread`: a name that stands for several servers."""

    target: str
    local: bool = False
    spread: bool = False

    def __str__(self) -> str:
        return self.target


def addresses_of(target: str) -> tuple[Address, ...]:
    """The addresses of a target, each once. Raises ValueError, with the cause and what to write instead."""
    if not isinstance(target, str):
        raise TypeError(f"the target is {target!r}; it must be a str such as '127.0.0.1:8001'")
    parts = [part.strip() for part in target.split(",")]
    if not all(parts):
        what = f"has an empty address: {quote(target)}" if target.strip() else "is empty"
        raise ValueError(f"the target {what}; write HOST:PORT, for example 127.0.0.1:8001")
    return tuple(dict.fromkeys(map(_address, parts)))


def _address(text: str) -> Address:
    scheme = _HAS_SCHEME.fullmatch(text)
    if scheme is not None:
        return _with_scheme(text, scheme[1], scheme[2])
    if _IS_URL.match(text):
        raise ValueError(f"{quote(text)} is a URL; write HOST:PORT{_from_url(text)}")
    return Address(text, local=_is_local(_check_host_and_port(text, text)))


def _with_scheme(text: str, scheme: str, rest: str) -> Address:
    if scheme in ("unix", "unix-abstract"):
        path = rest.removeprefix("//") if scheme == "unix" else rest
        if not path:
            raise ValueError(f"{quote(text)} names no socket; write unix:/path/of/the/socket")
        if len(path.encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"{quote(text)}: the path of a Unix socket takes at most {MAX_SOCKET_PATH_BYTES} bytes")
        return Address(text, local=True)
    if scheme == "dns":
        name = rest.rpartition("/")[2]  # dns:name:port, dns:///name:port or dns://name-server/name:port
        return Address(text, local=_is_local(_check_host_and_port(name, text)), spread=True)
    if scheme in ("ipv4", "ipv6"):
        return Address(text, local=_is_local(_check_host_and_port(rest.removeprefix("///"), text)))
    return Address(text, local=scheme == "vsock")


def _check_host_and_port(host_and_port: str, text: str) -> str:
    """The host. Raises ValueError."""
    match = _HOST_AND_PORT.fullmatch(host_and_port)
    if match is None:
        raise ValueError(f"{quote(text)} {_fault(host_and_port)}")
    if not 1 <= int(match[2]) <= 65535:
        raise ValueError(f"{quote(text)}: the port must be between 1 and 65535")
    return match[1]


def _fault(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if re.search(r"[\s/@]", text):
        return "is not an address; write HOST:PORT, for example 127.0.0.1:8001"
    if re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        return f"is an IPv6 address without brackets; write [ADDRESS]:PORT, for example [{host.rstrip(':')}]:8001"
    if not colon or text.endswith("]"):
        return f"has no port; write HOST:PORT, for example {text}:8001"
    if not host:
        return f"has no host; write HOST:PORT, for example 127.0.0.1:{port}"
    return f"has {quote(port)} for a port, which is not a number" if port else f"has no port after {quote(host)}"


def _from_url(text: str) -> str:
    """What to write instead of a URL."""
    try:
        url = urlsplit(text)
        netloc = "" if url.hostname is None else f", for example {url.hostname}:{url.port or 8001}"
    except ValueError:
        return ", for example 127.0.0.1:8001"
    return netloc + (" with tls=True" if url.scheme in ("https", "grpcs") else "")


def _is_local(host: str) -> bool:
    return _LOCAL_HOST.fullmatch(host.lower().rstrip(".")) is not None
