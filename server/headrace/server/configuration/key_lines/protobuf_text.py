"""The lines of the fields of a message in protobuf's text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from google.protobuf.text_format import Tokenizer

from headrace.server.configuration.key_lines.scanner import Key

_ENDS = {"{": "}", "<": ">"}


def protobuf_text_key_lines(text: str, repeated: Collection[str], maps: Collection[str]) -> dict[Key, int]:
    """The line of each field, counting from 1.

    Fields whose names are in `repeated` have an index after the name, those in `maps` the key of the entry. The text
    must be valid for a message in which fields of one name are all of one kind.
    """
    walk = _Walk(text, {*repeated, *maps})
    entries = {key[:-1]: walk.keys[key] for key in walk.keys if len(key) > 2 and key[-3] in maps}
    return {_with_entries(key, entries): line for key, line in walk.lines.items()}


def _with_entries(key: Key, entries: Mapping[Key, str]) -> Key:
    """The key with the keys of entries instead of their indices."""
    return tuple(entries.get(key[:length], key[length - 1]) for length in range(1, len(key) + 1))


class _Walk:
    """Goes through the tokens of the library that has read the text."""

    def __init__(self, text: str, repeated: Collection[str]) -> None:
        self.lines: dict[Key, int] = {}
        self.keys: dict[Key, str] = {}
        """The fields that are called `key`, and their values."""
        self._repeated = repeated
        self._line = 0
        self._tokens = Tokenizer(self._counted(text))
        self._fields((), "")

    def _counted(self, text: str) -> Iterator[str]:
        """The lines of the text. One is taken when its first token is: the last one taken has the token at hand."""
        for line in text.split("\n"):
            self._line += 1
            yield line

    def _fields(self, key: Key, end: str) -> None:
        counts: Counter[str] = Counter()
        while not self._tokens.AtEnd() and not self._tokens.TryConsume(end):
            line, name = self._line, self._tokens.ConsumeIdentifier()
            self._tokens.TryConsume(":")
            if self._tokens.TryConsume("["):
                self.lines.setdefault((*key, name), line)
                while not self._tokens.TryConsume("]"):
                    self._element((*key, name), self._line, counts)
                    self._separator()
            else:
                self._element((*key, name), line, counts)
            self._separator()

    def _element(self, key: Key, line: int, counts: Counter[str]) -> None:
        name = str(key[-1])
        self.lines.setdefault(key, line)
        if name in self._repeated:
            key = (*key, counts[name])
            counts[name] += 1
            self.lines[key] = line
        begin = self._tokens.token
        if begin in _ENDS:
            self._tokens.NextToken()
            self._fields(key, _ENDS[begin])
        elif begin.startswith(('"', "'")):
            value = self._tokens.ConsumeByteString()  # adjacent strings are one
            if name == "key":
                self.keys[key] = value.decode()
        else:
            self._tokens.NextToken()

    def _separator(self) -> None:
        if not self._tokens.TryConsume(","):
            self._tokens.TryConsume(";")
