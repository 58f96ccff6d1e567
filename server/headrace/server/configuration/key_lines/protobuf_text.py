"""The lines of the fields of a message in protobuf's text format."""

from __future__ import annotations

import re
from ast import literal_eval
from collections import Counter
from collections.abc import Collection, Mapping

from headrace.server.configuration.key_lines.scanner import Key, Scanner

_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_SCALAR = re.compile(r"[^\s,;\]}>#\"'\[{<]+")
_ENDS = {"{": "}", "<": ">"}


def protobuf_text_key_lines(text: str, repeated: Collection[str], maps: Collection[str]) -> dict[Key, int]:
    """The line of each field, counting from 1.

    Fields whose names are in `repeated` have an index after the name, those in `maps` the key of the entry. The text
    must be valid for a message in which fields of one name are all of one kind.
    """
    scanner = _TextScanner(text, {*repeated, *maps})
    entries = {key[:-1]: scanner.keys[key] for key in scanner.keys if len(key) > 2 and key[-3] in maps}
    return {_with_entries(key, entries): line for key, line in scanner.lines.items()}


def _with_entries(key: Key, entries: Mapping[Key, str]) -> Key:
    """The key with the keys of entries instead of their indices."""
    return tuple(entries.get(key[:length], key[length - 1]) for length in range(1, len(key) + 1))


class _TextScanner(Scanner):
    def __init__(self, text: str, repeated: Collection[str]) -> None:
        super().__init__(text)
        self.keys: dict[Key, str] = {}
        """The fields that are called `key`, and their values."""
        self._repeated = repeated
        self._fields((), "")

    def _fields(self, key: Key, end: str) -> None:
        counts: Counter[str] = Counter()
        while self.skip(_SPACE) and not (self.at(end) if end else self.ended):
            line, name = self.line, self.expect(_NAME)
            self.skip(_SPACE)
            if self.at(":"):
                self.take(":")
                self.skip(_SPACE)
            if self.at("["):
                self._list((*key, name), line, counts)
            else:
                self._element((*key, name), line, counts)
            self._separator()
        if end:
            self.take(end)

    def _list(self, key: Key, line: int, counts: Counter[str]) -> None:
        self.add(key, line)
        self.take("[")
        self.skip(_SPACE)
        while not self.at("]"):
            self._element(key, self.line, counts)
            self._separator()
        self.take("]")

    def _element(self, key: Key, line: int, counts: Counter[str]) -> None:
        name = str(key[-1])
        if name in self._repeated:
            key = (*key, counts[name])
            counts[name] += 1
        self.add(key, line)
        for begin, end in _ENDS.items():
            if self.at(begin):
                self.take(begin)
                self._fields(key, end)
                return
        value = "" if self.at('"') or self.at("'") else self.expect(_SCALAR)
        while string := self.match(_STRING):  # adjacent strings are one
            value += str(literal_eval(string))
            self.skip(_SPACE)
        if name == "key":
            self.keys[key] = value

    def _separator(self) -> None:
        self.skip(_SPACE)
        for each in (",", ";"):
            if self.at(each):
                self.take(each)
                self.skip(_SPACE)
                return
