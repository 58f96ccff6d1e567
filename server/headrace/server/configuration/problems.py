"""What is wrong in files of configuration: everything is collected before anybody is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches


class ConfigurationError(Exception):
    """The message has a line for each problem, with file, line and key."""


class Problems:
    """Errors, and warnings about what is left out.

    With `lenient`, what another server's configuration says and this server does not have is a warning.
    """

    def __init__(self, lenient: bool = False) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._lenient = lenient

    def add(self, origin: str, key: str, text: str) -> None:
        """An error. `origin` is a file and a line, `key` has dots."""
        self.errors.append(_sentence(origin, key, text))

    def unsupported(self, origin: str, key: str, text: str) -> None:
        """Something that this server does not have."""
        if self._lenient:
            self.warnings.append(_sentence(origin, key, f"{text}; this is ignored"))
        else:
            self.errors.append(_sentence(origin, key, f"{text}; with --lenient this is ignored"))

    def check(self) -> None:
        """Raises ConfigurationError if there is an error."""
        if self.errors:
            raise ConfigurationError("\n".join(self.errors))


def unknown_key(name: str, known: Collection[str]) -> str:
    """The text about a key that does not exist, with the one that may have been meant."""
    spelled = name.replace("-", "_").lower()
    close = get_close_matches(spelled, [*known], 1)
    return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; there are {listed(sorted(known))}"


def listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _sentence(origin: str, key: str, text: str) -> str:
    return ": ".join(part for part in (origin, key, text) if part)
