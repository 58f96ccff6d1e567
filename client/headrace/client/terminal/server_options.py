"""The options of the command that say which server to talk to, and how."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from headrace.client.protocol.addresses import addresses_of
from headrace.client.protocol.connection_settings import MAX_MESSAGE_BYTES, ConnectionSettings, Tls, Token
from headrace.client.terminal.usage_error import UsageError
from headrace.client.transport.credentials import read_tls
from headrace.wire.errors import Unauthenticated

TOKEN_VARIABLE = "HEADRACE_TOKEN"
"""The variable of the environment that may hold a token. On the command line other users would see it."""
TOKEN_SECONDS = 1.0
"""How long a token is used before its file is read again."""


def check_target(_type: Any, target: str | None) -> None:
    """Raises ValueError with what to write instead."""
    if target is not None:
        addresses_of(target)


Target = Annotated[
    str,
    Parameter(
        name="TARGET", help="The server, for example 127.0.0.1:8001; several as A:8001,B:8001.", validator=check_target
    ),
]


@dataclass(frozen=True)
class Security:
    """How a connection is secured, and what it proves itself with."""

    tls: Annotated[bool, Parameter(help="Encrypt the connection, and trust the CAs of the system.")] = False
    tls_ca: Annotated[Path | None, Parameter(help="Encrypt the connection, and trust the CAs of this file.")] = None
    tls_cert: Annotated[
        Path | None, Parameter(help="Certificate to show to the server, with its chain. Needs --tls-key.")
    ] = None
    tls_key: Annotated[Path | None, Parameter(help="The key of this certificate.")] = None
    token_file: Annotated[
        Path | None,
        Parameter(
            help="File with a token, sent with each call. It is read again when it changes. Without it, the variable "
            "HEADRACE_TOKEN may hold one."
        ),
    ] = None
    plain_token: Annotated[
        bool, Parameter(help="Send the token to another machine even if the connection is not encrypted.")
    ] = False


SecurityOptions = Annotated[Security, Parameter(name="*")]
PLAIN = Security()


class TokenFile:
    """The token in a file, which may be replaced while it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_again_at = 0.0

    def __call__(self) -> str:
        """Raises Unauthenticated if the file cannot be read."""
        now = time.monotonic()
        if now >= self._read_again_at:
            try:
                self._token = self._path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise Unauthenticated(f"the token in {self._path} cannot be read: {why}") from None
            self._read_again_at = now + TOKEN_SECONDS
        return self._token


def connection_settings(
    target: str, security: Security, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> ConnectionSettings:
    """Raises UsageError for files that cannot be used."""
    token: Token | None = os.environ.get(TOKEN_VARIABLE) or None
    try:
        if security.token_file is not None:
            token = TokenFile(security.token_file)
            token()
        files = security.tls_ca, security.tls_cert, security.tls_key
        given = any(file is not None for file in files)
        tls = read_tls(Tls(ca=files[0], certificate=files[1], key=files[2]) if given else security.tls)
        return ConnectionSettings(
            target=target,
            max_message_bytes=max_message_bytes,
            tls=tls,
            token=token,
            plain_token=security.plain_token,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    except Unauthenticated as error:
        raise UsageError(error.message) from None
