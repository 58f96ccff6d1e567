"""What `connect` was given, as one value. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from headrace.client.protocol.addresses import Address, addresses_of
from headrace.client.protocol.timeouts import seconds
from headrace.wire.errors import quote

MAX_MESSAGE_BYTES = 64 << 20
"""The default of the largest message that the client takes."""
MIN_MESSAGE_BYTES = 64 << 10
CONNECT_TIMEOUT = 5.0
"""The default, in seconds."""
CALL_TIMEOUT = 10.0
"""The default of how long a call about models or the server may take, in seconds."""
RETRIES = 3
"""The default of how often a call is made again."""

Token = str | Callable[[], str]
Metadata = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]
Options = Mapping[str, Any] | Iterable[tuple[str, Any]]

_METADATA_KEY = re.compile(r"[a-z0-9_.-]+")
_METADATA_VALUE = re.compile(r"[ -~]*")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to secure a connection. A file is given by its path (str or Path), or by its content (bytes), in PEM.

    `ca`: the certificates to trust; by default those of the system (or of GRPC_DEFAULT_SSL_ROOTS_FILE_PATH).
    `certificate` and `key`: what this client shows to a server that asks for it (mutual TLS).
    `server_name`: the name that the server's certificate must have, if it is not the host of the address.
    """

    ca: str | Path | bytes | None = None
    certificate: str | Path | bytes | None = None
    key: str | Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """Where a server is and how to talk to it; made by `connect`. It can be sent to another process.

    `tls` holds contents, never paths. `timeout` is the default of calls about models and the server.
    """

    target: str
    max_message_bytes: int = MAX_MESSAGE_BYTES
    connect_timeout: float = CONNECT_TIMEOUT
    timeout: float = CALL_TIMEOUT
    retries: int = RETRIES
    tls: Tls | None = None
    token: Token | None = field(default=None, repr=False)
    plain_token: bool = False
    """Whether the token may leave this machine in plain text."""
    metadata: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    options: tuple[tuple[str, Any], ...] = ()
    first: int | None = None
    """The index of the address that is chosen first; None for any, so that clients do not all begin with the same."""

    def __post_init__(self) -> None:
        """Raises ValueError and TypeError for what cannot be right, in one sentence."""
        assert self.addresses
        if self.max_message_bytes < MIN_MESSAGE_BYTES:
            raise ValueError(f"max_message_bytes is {self.max_message_bytes}; it must be at least {MIN_MESSAGE_BYTES}")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; it must be at least 0")
        if isinstance(self.token, str):
            check_token(self.token)
        if self.token is not None and self.tls is None and not self.plain_token:
            for address in self.addresses:
                if not address.local:
                    raise ValueError(
                        f"the token would be sent to {address} in plain text, where others can read it: encrypt the "
                        "connection (tls, --tls), or insist (plain_token, --plain-token)"
                    )
        for name in ("connect_timeout", "timeout"):
            object.__setattr__(self, name, seconds(getattr(self, name), name))
        for key, value in self.metadata:
            _check_metadata(key, value)

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        return addresses_of(self.target)

    @property
    def first_address(self) -> Address:
        return self.addresses[self.first or 0]

    def beginning_at(self, number: int) -> ConnectionSettings:
        """The same connection, for the one of several users of this number: together they begin at every address."""
        return replace(self, first=((self.first or 0) + number) % len(self.addresses))


def pairs(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """The pairs of a mapping, or of an iterable of them."""
    return tuple((key, value) for key, value in (values.items() if isinstance(values, Mapping) else values))


def check_token(token: object) -> str:
    """Raises TypeError and ValueError, which never show the token."""
    if not isinstance(token, str):
        raise TypeError(
            f"the token is of type {type(token).__name__}; it must be a str, or a callable that returns one"
        )
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(
            "the token is empty, or has a space, a line break or another character that no header can hold"
        )
    return token


def _check_metadata(key: object, value: object) -> None:
    if not isinstance(key, str) or _METADATA_KEY.fullmatch(key) is None or key.startswith("grpc-"):
        raise ValueError(
            f"{quote(key)} cannot be a key of metadata: lower-case letters, digits, '-', '_' and '.', not grpc-..."
        )
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"the value of metadata {quote(key)} must be bytes, because its key ends in -bin")
    elif not isinstance(value, str) or _METADATA_VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of metadata {quote(key)} must be a str of printable ASCII characters")
