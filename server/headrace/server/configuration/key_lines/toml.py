"""The lines of the keys of a TOML file."""

from __future__ import annotations

import re
import tomllib

from headrace.server.configuration.key_lines.scanner import Key, Scanner

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^"\\]|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#\"'\[{]+")


def toml_key_lines(text: str) -> dict[Key, int]:
    """The line of each key, table and element of an array, counting from 1. The text must be valid TOML."""
    return _TomlScanner(text).lines


class _TomlScanner(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._arrays: dict[Key, int] = {}
        """The index of the last table of each array of tables."""
        table: Key = ()
        while self.skip(_SPACE) and not self.ended:
            if self.at("[["):
                table = self._array_header()
            elif self.at("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Key:
        self.take("[")
        line, names = self.line, self._dotted()
        self.take("]")
        key = self._resolved(names)
        self.add(key, line)
        return key

    def _array_header(self) -> Key:
        self.take("[[")
        line, names = self.line, self._dotted()
        self.take("]]")
        array = self._resolved(names[:-1]) + names[-1:]
        self._arrays[array] = self._arrays.get(array, -1) + 1
        key = (*array, self._arrays[array])
        self.add(key, line)
        return key

    def _resolved(self, names: Key) -> Key:
        """The key of a table, through the last tables of arrays of tables."""
        key: Key = ()
        for name in names:
            key = (*key, name)
            if key in self._arrays:
                key = (*key, self._arrays[key])
        return key

    def _pair(self, table: Key) -> None:
        line = self.line
        key = table + self._dotted()
        self.add(key, line)
        self.take("=")
        self.skip(_BLANK)
        self._value(key)

    def _dotted(self) -> Key:
        names: list[str | int] = []
        while True:
            self.skip(_BLANK)
            quoted = self.match(_STRING)
            names.append(tomllib.loads(f"k = {quoted}")["k"] if quoted else self.expect(_BARE))
            self.skip(_BLANK)
            if not self.at("."):
                return tuple(names)
            self.take(".")

    def _value(self, key: Key) -> None:
        if self.at("["):
            self._array(key)
        elif self.at("{"):
            self._inline_table(key)
        elif not self.match(_STRING):
            self.expect(_SCALAR)

    def _array(self, key: Key) -> None:
        self.take("[")
        self.skip(_SPACE)
        index = 0
        while not self.at("]"):
            self.add((*key, index), self.line)
            self._value((*key, index))
            self.skip(_SPACE)
            if self.at(","):
                self.take(",")
                self.skip(_SPACE)
            index += 1
        self.take("]")

    def _inline_table(self, key: Key) -> None:
        self.take("{")
        self.skip(_SPACE)
        while not self.at("}"):
            self._pair(key)
            self.skip(_SPACE)
            if self.at(","):
                self.take(",")
                self.skip(_SPACE)
        self.take("}")
