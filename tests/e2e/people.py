"""A file of identities, and their tokens."""

from __future__ import annotations

from pathlib import Path

from headrace.server.security.identities import identity_lines
from headrace.server.security.scopes import Scope
from headrace.server.security.tokens import new_token
from tests.e2e.authority import replace


class People:
    """`tokens` by name. Every change is written at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tokens: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        self.write()

    def add(self, name: str, *scopes: Scope, **limits: float | str) -> str:
        """Add somebody, with limits as the file has them. Returns the token."""
        token, hashed = new_token()
        lines = [f"{key} = {value!r}\n" for key, value in limits.items()]
        self.tokens[name] = token
        self._tables[name] = "".join([identity_lines(name, scopes, hashed), *lines])
        self.write()
        return token

    def remove(self, name: str) -> None:
        del self._tables[name]
        self.write()

    def write(self) -> None:
        replace(self.file, "\n".join(self._tables.values()).encode())
