"""How a record of the log becomes a line: for people, or as JSON for programs.

What clients have sent may be part of a message. Whatever it is, it cannot end the line, look like another line, or
control a terminal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

LogFormat: TypeAlias = Literal["text", "json"]

MAX_CHARACTERS = 16 << 10
"""The longest message, and the longest traceback; of a longer one the middle is left out."""
MAX_FIELD_CHARACTERS = 256
FIELDS = "fields"
"""The attribute of a record that has its fields, by name."""
UNCOUNTED = "uncounted"
"""An attribute of records whose rate is bounded elsewhere, so that the log shows each."""
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INDENT = "    "
"""Before each line of a traceback: a message of an error that has several lines is part of it."""


class TextFormatter(logging.Formatter):
    """`2026-11-29 22:00:35,123 WARNING headrace.requests: a request failed: ... [code=NOT_FOUND tag=7]`."""

    def __init__(self, constant: Mapping[str, str | float] | None = None) -> None:
        """`constant` are fields of every line."""
        super().__init__(_TEXT)
        self._constant = constant or {}

    def format(self, record: logging.LogRecord) -> str:
        record.message = printable(cut(record.getMessage()))
        record.asctime = self.formatTime(record)
        line = self.formatMessage(record)
        if fields := {**self._constant, **fields_of(record)}:
            line += f" [{' '.join(f'{name}={_value(value)}' for name, value in fields.items())}]"
        if trace := _traceback(self, record):
            line += "".join([f"\n{_INDENT}{printable(each)}" for each in trace.split("\n")])
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, then the fields of the record, and the traceback if any."""

    def __init__(self, constant: Mapping[str, str | float] | None = None) -> None:
        """`constant` are fields of every line."""
        super().__init__()
        self._constant = constant or {}

    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": cut(record.getMessage()),
        }
        for name, value in {**self._constant, **fields_of(record)}.items():
            values[name] = value if isinstance(value, int | float) else cut(str(value), MAX_FIELD_CHARACTERS)
        if trace := _traceback(self, record):
            values["traceback"] = trace
        # ASCII: every control character of Unicode is escaped, and half a pair of surrogates is, too.
        return json.dumps(values)


def formatter(name: LogFormat, constant: Mapping[str, str | float] | None = None) -> logging.Formatter:
    """`constant` are fields of every line."""
    return JsonFormatter(constant) if name == "json" else TextFormatter(constant)


def fields_of(record: logging.LogRecord) -> Mapping[str, str | float]:
    fields: Mapping[str, str | float] = getattr(record, FIELDS, {})
    return fields


def printable(text: str) -> str:
    """The text with escapes for everything that is not printed: ends of lines, control and formatting characters."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def cut(text: str, most: int = MAX_CHARACTERS) -> str:
    """The text, without its middle if it is too long."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} [{len(text) - 2 * half} characters left out] {text[-half:]}"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    trace = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else record.exc_text
    return cut(trace or "")


def _value(value: str | float) -> str:
    """A value that ends where it seems to: in quotes if it has a space, a quote or a bracket."""
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value).lower()
    text = printable(cut(value, MAX_FIELD_CHARACTERS))
    return json.dumps(text, ensure_ascii=False) if not text or any(char in text for char in " \"'[]=") else text
