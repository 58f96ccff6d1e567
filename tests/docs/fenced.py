"""The fenced blocks of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """`line` is that of its first line of code in the page."""

    language: str
    line: int
    lines: tuple[str, ...]

    @property
    def code(self) -> str:
        return "\n".join(self.lines[: len(self.lines) - len(self.output)]) + "\n"

    @property
    def output(self) -> list[str]:
        """What it says that it prints: the comments at its end."""
        shown: list[str] = []
        for line in reversed(self.lines):
            if not line.startswith("# "):
                break
            shown.insert(0, line.removeprefix("# "))
        return shown


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(match[1], text.count("\n", 0, match.start(2)) + 1, tuple(match[2].splitlines()))
        for match in _FENCE.finditer(text)
    ]
