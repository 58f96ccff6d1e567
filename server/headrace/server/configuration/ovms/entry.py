"""The configuration of one model in a config.json: its keys, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.server.configuration.given import dotted
from headrace.server.configuration.key_lines.scanner import Key
from headrace.server.configuration.problems import Problems


@dataclass(frozen=True, slots=True)
class Entry:
    """`key` is where `config` stands in the file, `folder` where relative paths start."""

    config: Mapping[str, Any]
    file: str
    lines: Mapping[Key, int]
    key: Key
    folder: Path
    problems: Problems

    def origin(self, *key: str | int) -> str:
        """The file and the line of a key of this configuration, or of what has it."""
        full = self.key + key
        return next(
            f"{self.file}:{self.lines[full[:end]]}" for end in range(len(full), 0, -1) if full[:end] in self.lines
        )

    def error(self, text: str, *key: str | int) -> None:
        self.problems.add(self.origin(*key), dotted(self.key + key), text)

    def unsupported(self, text: str, *key: str | int) -> None:
        self.problems.unsupported(self.origin(*key), dotted(self.key + key), text)
