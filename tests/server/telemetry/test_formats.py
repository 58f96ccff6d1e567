"""Records as lines, for people and for programs: whatever a client has sent stays inside its line."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

import pytest

from headrace.server.telemetry.formats import (
    FIELDS,
    MAX_CHARACTERS,
    MAX_FIELD_CHARACTERS,
    JsonFormatter,
    TextFormatter,
    printable,
)

HOSTILE = "a\nb\r\n2026-11-29 22:00:35,123 ERROR headrace: forged\x1b[2J\x00\x7f\x85\u2028\u202e\ud800 é 漢"
ESCAPED = "a\\nb\\r\\n2026-11-29 22:00:35,123 ERROR headrace: forged\\x1b[2J\\x00\\x7f\\x85\\u2028\\u202e\\ud800 é 漢"


def record(message: str = "a message", error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error is not None else None
    made = logging.LogRecord("headrace.requests", logging.WARNING, __file__, 1, "%s", (message,), info)
    made.created = 1795989635.25
    setattr(made, FIELDS, fields)
    return made


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_line_for_people() -> None:
    line = TextFormatter().format(record("went wrong", code="NOT_FOUND", tag=7, running_ms=0.25, direct=True))
    assert re.fullmatch(
        r"2026-\d\d-\d\d \d\d:\d\d:35,\d{3} WARNING headrace.requests: went wrong "
        r"\[code=NOT_FOUND tag=7 running_ms=0.25 direct=true\]",
        line,
    )


def test_an_object_for_programs() -> None:
    line = JsonFormatter().format(record("went wrong", code="NOT_FOUND", tag=7, running_ms=0.25, direct=True))
    assert json.loads(line) == {
        "time": "2026-11-29T22:00:35.250000Z",
        "level": "warning",
        "logger": "headrace.requests",
        "message": "went wrong",
        "code": "NOT_FOUND",
        "tag": 7,
        "running_ms": 0.25,
        "direct": True,
    }


def test_what_is_hostile_is_escaped_for_people() -> None:
    line = TextFormatter().format(record(HOSTILE, request_id=HOSTILE))
    assert line.isprintable()
    assert line.count(ESCAPED) == 1
    assert printable(HOSTILE) == ESCAPED
    # A value is in quotes, so that what is in it is no field of its own.
    assert 'request_id="a\\\\nb' in line


def test_what_is_hostile_is_escaped_for_programs() -> None:
    line = JsonFormatter().format(record(HOSTILE, request_id=HOSTILE))
    assert line.isprintable()
    assert line.isascii()
    assert json.loads(line)["message"] == json.loads(line)["request_id"] == HOSTILE


@pytest.mark.parametrize("value", ['"', "x] [y", "a=b", "it's", "", " "])
def test_a_value_cannot_look_like_another_field(value: str) -> None:
    line = TextFormatter().format(record("m", request_id=value, tag=1))
    assert line.endswith(f"[request_id={json.dumps(value)} tag=1]")


def test_a_traceback_cannot_look_like_lines_of_the_log() -> None:
    error = raised(ValueError("two\n2026-11-29 22:00:35,123 ERROR headrace: forged\x1b[2J"))
    first, *trace = TextFormatter().format(record(error=error)).split("\n")
    assert first.endswith("WARNING headrace.requests: a message")
    assert all(line.startswith("    ") and line.isprintable() for line in trace)
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    2026-11-29 22:00:35,123 ERROR headrace: forged\\x1b[2J"
    parsed = json.loads(JsonFormatter().format(record(error=error)))
    assert parsed["traceback"].startswith("Traceback (most recent call last):")
    assert parsed["traceback"].endswith("forged\x1b[2J")


def test_lines_are_bounded_and_objects_stay_whole() -> None:
    long = record("begin" + "\n" * 10 * MAX_CHARACTERS + "end", request_id="r" * 10_000)
    text, parsed = TextFormatter().format(long), json.loads(JsonFormatter().format(long))
    assert len(text) < 3 * MAX_CHARACTERS
    assert "\n" not in text
    assert "characters left out" in text
    assert len(parsed["message"]) < MAX_CHARACTERS + 100
    assert len(parsed["request_id"]) < MAX_FIELD_CHARACTERS + 100
    assert parsed["message"].startswith("begin")
    assert parsed["message"].endswith("end")


def test_a_traceback_is_bounded() -> None:
    error = raised(ValueError("x" * 10 * MAX_CHARACTERS))
    for formatter in (TextFormatter(), JsonFormatter()):
        assert len(formatter.format(record(error=error))) < 2 * MAX_CHARACTERS


def test_no_error_is_no_traceback() -> None:
    made = record()
    made.exc_info = sys.exc_info()  # all None, as `exc_info=True` gives without an error
    assert "\n" not in TextFormatter().format(made)
    assert "traceback" not in json.loads(JsonFormatter().format(made))
