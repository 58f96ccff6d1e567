"""A place in a text that moves on, and the lines of the keys that it has passed."""

from __future__ import annotations

import re
from bisect import bisect_right

Key = tuple[str | int, ...]
"""The names of tables and keys, and the indices of elements of arrays."""


class Scanner:
    """`lines` has the line of each key, counting from 1."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Key, int] = {}
        self._text = text
        self._position = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    @property
    def line(self) -> int:
        return bisect_right(self._starts, self._position)

    @property
    def ended(self) -> bool:
        return self._position >= len(self._text)

    def add(self, key: Key, line: int) -> None:
        """Note the line of a key, and of the tables that it implies. The first line counts."""
        for length in range(1, len(key) + 1):
            self.lines.setdefault(key[:length], line)

    def at(self, text: str) -> bool:
        return self._text.startswith(text, self._position)

    def take(self, text: str) -> None:
        """Raises ValueError if something else is here, which the text's library would not have accepted."""
        if not self.at(text):
            raise ValueError(f"line {self.line}: {text!r} is expected")
        self._position += len(text)

    def match(self, pattern: re.Pattern[str]) -> str:
        """What matches here, and is passed; empty if nothing does."""
        match = pattern.match(self._text, self._position)
        if match is None:
            return ""
        self._position = match.end()
        return match[0]

    def expect(self, pattern: re.Pattern[str]) -> str:
        """The same. Raises ValueError if nothing matches."""
        found = self.match(pattern)
        if not found:
            raise ValueError(f"line {self.line}: {pattern.pattern!r} is expected")
        return found

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Pass what matches, which may be nothing. Always true."""
        self.match(pattern)
        return True
