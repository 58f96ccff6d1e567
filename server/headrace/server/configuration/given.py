"""Options as a file gives them, and where it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.server.engine.port_options import ExpectedPort

Path = tuple[str, ...]
"""The names of tables and of a key."""


@dataclass(slots=True)
class Given:
    """The options of a model, as a table of TOML, and the origins of its keys: a file and a line, or a flag.

    `expected` are ports that the model is said to have.
    """

    options: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    expected: tuple[ExpectedPort, ...] = ()

    def set(self, path: Path, value: Any, origin: str) -> None:
        """Give an option, in a table that is made if need be."""
        table = self.options
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
        for length in range(1, len(path) + 1):
            self.origins.setdefault(path[:length], origin)
        self.origins[path] = origin

    def get(self, *path: str) -> Any:
        """None if the option is not given."""
        value: Any = self.options
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def origin(self, path: tuple[str | int, ...]) -> str:
        """Where a key was given, or the table that has it; empty if neither is known."""
        names = tuple(name for name in path if isinstance(name, str))
        for length in range(len(names), -1, -1):
            if names[:length] in self.origins:
                return self.origins[names[:length]]
        return ""

    def over(self, lower: Given) -> Given:
        """These options, and those of `lower` that are not given here."""
        merged = Given(expected=lower.expected + self.expected)
        for each in (lower, self):
            for path, origin in each.origins.items():
                if path not in merged.origins or each is self:
                    merged.origins[path] = origin
            for path, value in leaves(each.options):
                table = merged.options
                for name in path[:-1]:
                    if not isinstance(table.get(name), dict):
                        table[name] = {}
                    table = table[name]
                if value != {} or not isinstance(table.get(path[-1]), dict):  # an empty table takes nothing away
                    table[path[-1]] = value
        return merged


def leaves(options: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every key whose value is not a table, and every empty table."""
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def dotted(path: tuple[str | int, ...]) -> str:
    """A key as TOML writes it: `models.resnet.inputs.x`."""
    text = ""
    for name in path:
        if isinstance(name, int):
            text += f"[{name}]"
        else:
            text += ("." if text else "") + quoted_key(name)
    return text


def quoted_key(name: str) -> str:
    """A key of TOML: bare, or in quotes if it has other than letters, digits, _ and -."""
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else quoted(name)


def quoted(text: str) -> str:
    """A string of TOML."""
    escaped = "".join(
        f"\\{each}" if each in '"\\' else f"\\u{ord(each):04x}" if ord(each) < 32 or ord(each) == 127 else each
        for each in text
    )
    return f'"{escaped}"'
