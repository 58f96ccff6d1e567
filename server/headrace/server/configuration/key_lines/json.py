"""The lines of the keys of a JSON file."""

from __future__ import annotations

import json
import re

from headrace.server.configuration.key_lines.scanner import Key, Scanner

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\s]+")


def json_key_lines(text: str) -> tuple[dict[Key, int], dict[Key, int]]:
    """The line of each key and element, counting from 1, and that of each key that an object has again.

    The text must be valid JSON.
    """
    scanner = _JsonScanner(text)
    return scanner.lines, scanner.repeated


class _JsonScanner(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: dict[Key, int] = {}
        self._value(())

    def _value(self, key: Key) -> None:
        self.skip(_SPACE)
        if key:
            self.add(key, self.line)
        if self.at("{"):
            self._members(key, "{", "}")
        elif self.at("["):
            self._members(key, "[", "]")
        elif not self.match(_STRING):
            self.expect(_SCALAR)
        self.skip(_SPACE)

    def _members(self, key: Key, begin: str, end: str) -> None:
        self.take(begin)
        self.skip(_SPACE)
        index = 0
        while not self.at(end):
            member: str | int = index
            if begin == "{":
                line = self.line
                member = json.loads(self.expect(_STRING))
                if (*key, member) in self.lines:
                    self.repeated[*key, member] = line
                self.add((*key, member), line)
                self.skip(_SPACE)
                self.take(":")
            self._value((*key, member))
            if self.at(","):
                self.take(",")
                self.skip(_SPACE)
            index += 1
        self.take(end)
