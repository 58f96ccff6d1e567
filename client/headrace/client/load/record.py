"""A run as a file: JSON Lines, written as the run goes, so that a crash loses no more than what it was about to write.

    {"headrace-load": 1, "settings": {...}}                   the first line; the number is the version of the format
    {"phase": 0, "begin": {"load": {...}, "warmup": 1.0, "duration": 10.0, "count": null}}
    {"phase": 0, "intended": [0, 5000], "sent": [12, 5011], "ended": [4100, 9006], "code": [0, 8],
     "waiting": null, "queued": [90, null], "running": [900, null]}                    again and again
    {"phase": 0, "over": {"planned": 2, "unsent": 0, "elapsed": 10.0, "messages": {"8": "..."}, ...}}

The columns are integer microseconds and up to 1,000 samples long; a time that nobody knows is null, and so is a column
that has none. No `code` means that all succeeded. Everything else is in seconds.

Why this: any program that reads JSON reads it, a person can check its numbers, and a file without an end is still a
record. An object for each request would say the same seven names again and again, in nearly three times the size and
six times the time to read. A binary file would be a third smaller, and would need this program to look into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from headrace.client.load.run import Outcome, Phase, Run, Server, Settings
from headrace.client.load.samples import COLUMNS, EMPTY, NO_ANSWER, Floats, Integers, Samples, joined
from headrace.client.load.typed import typed
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

FORMAT = "headrace-load"
VERSION = 1
ROWS = 1_000
MICROSECONDS = 1e6
MAX_LINE = 1 << 22
"""Bytes. No record has a longer line, and a file that is something else need not be read to its end."""
MAX_TIME = 1 << 53
"""Microseconds: above it a float misses some."""
MAX_CODE = 1_000
"""gRPC has 17."""
KNOWN_TIMES = ("intended", "sent", "ended")
TIMES = tuple(name for name in COLUMNS if name != "code")


class Recorder:
    """Writes a run into a text file. Each call reaches the file before it returns."""

    def __init__(self, file: TextIO, settings: Settings) -> None:
        self._file = file
        self._phases = 0
        self._write({FORMAT: VERSION, "settings": asdict(settings)})

    def begin(self, phase: Phase) -> int:
        """The number of the phase, from 0."""
        number, self._phases = self._phases, self._phases + 1
        self._write({"phase": number, "begin": asdict(phase)})
        return number

    def add(self, number: int, samples: Samples) -> None:
        """More samples of the phase, before it is over."""
        for start in range(0, samples.count, ROWS):
            rows = samples.where(np.arange(start, min(start + ROWS, samples.count)))
            columns: dict[str, Any] = {name: _written(getattr(rows, name)) for name in TIMES}
            if rows.code.any():
                columns["code"] = rows.code.tolist()
            self._write({"phase": number, **columns})

    def over(self, number: int, outcome: Outcome) -> None:
        """All but the samples, which `add` has written."""
        said = {name: getattr(outcome, name) for name in _OVER if name != "server"}
        self._write({"phase": number, "over": said | {"server": outcome.server and asdict(outcome.server)}})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()


def read(path: Path) -> Run:
    """Raises UsageError, which names the file and the line.

    A phase that never was over is interrupted: what it planned is taken to be what it sent.
    """
    try:
        run = _read(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if not run.outcomes:
        raise UsageError(f"{path} holds no phase: its run ended before anything was measured")
    return run


def _read(path: Path) -> Run:
    reader = None
    for number, line in _lines(path):
        try:
            if reader is None:
                reader = _Reader(_settings(line))
            else:
                reader.take(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    if reader is None:
        raise UsageError(f"{path} is empty")
    return reader.run(str(path))


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Each line, with its number. A last one that was not written to its end is left out."""
    with path.open("rb") as file:
        number = 0
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE:
                raise UsageError(f"{path}, line {number}: no record of headrace load has a line as long as this")
            try:
                line = json.loads(text.decode())
            except (ValueError, RecursionError):
                if number > 1 and not text.endswith(b"\n"):
                    return
                raise UsageError(f"{path}, line {number}: this is no JSON, and so no record of headrace load") from None
            yield number, line


def _settings(line: object) -> Settings:
    """Of the first line."""
    if not isinstance(line, dict) or FORMAT not in line:
        raise ValueError("this is no record of headrace load")
    if line[FORMAT] != VERSION:
        raise ValueError(
            f"this is a record of version {quote(line[FORMAT])}, and this headrace reads version {VERSION}"
        )
    settings: Settings = typed(Settings, line.get("settings"), "settings")
    return settings


@dataclass(slots=True)
class _Over:
    planned: int
    unsent: int
    elapsed: float
    messages: dict[int, str]
    server: Server | None
    interrupted: bool
    no_room: int


_OVER = tuple(field.name for field in fields(_Over))


class _Reader:
    """A run as its lines come. Raises ValueError."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outcomes: list[Outcome] = []
        self._phase: Phase | None = None
        self._parts: list[Samples] = []

    def take(self, line: object) -> None:
        if not isinstance(line, dict) or type(line.get("phase")) is not int:
            raise ValueError("this is no line of a record")
        if line["phase"] != len(self._outcomes) or ("begin" in line) != (self._phase is None):
            raise ValueError(f"this is out of place: phase {line['phase']} has not begun, or was over")
        if self._phase is None:
            self._phase = typed(Phase, line["begin"], "begin")
        elif "over" in line:
            self._end(typed(_Over, line["over"], "over"))
        else:
            self._parts.append(_samples(line))

    def run(self, name: str) -> Run:
        if self._phase is not None:
            samples = joined(self._parts)
            elapsed = float(samples.ended.max(initial=0.0))
            self._end(_Over(samples.count, 0, elapsed, {}, None, interrupted=True, no_room=0))
        return Run(self._settings, self._outcomes, name)

    def _end(self, over: _Over) -> None:
        if self._phase is None or min(over.planned, over.unsent, over.elapsed, over.no_room) < 0:
            raise ValueError("a count below zero")
        said = {name: getattr(over, name) for name in _OVER}
        self._outcomes.append(Outcome(self._phase, samples=joined(self._parts), **said))
        self._phase, self._parts = None, []


def _written(times: Floats) -> list[int | None] | None:
    known = np.isfinite(times)
    if not known.any():
        return None
    whole: list[int | None] = np.rint(np.where(known, times, 0.0) * MICROSECONDS).astype(np.int64).tolist()
    for at in np.flatnonzero(~known).tolist():
        whole[at] = None
    return whole


def _samples(line: dict[str, Any]) -> Samples:
    for name in line.keys() - {"phase", *COLUMNS}:
        raise ValueError(f"{quote(name)} is unknown")
    intended = line.get("intended")
    if not isinstance(intended, list):
        raise ValueError("intended is no list")
    columns = {name: _times(line.get(name), name, len(intended)) for name in TIMES}
    return Samples(**columns, code=_codes(line.get("code"), len(intended)))


def _times(values: object, name: str, count: int) -> Floats:
    if values is None and name not in KNOWN_TIMES:
        return np.full(count, np.nan)
    return _column(values, name, count, unknown=name not in KNOWN_TIMES) / MICROSECONDS


def _codes(values: object, count: int) -> Integers:
    codes = np.zeros(count) if values is None else _column(values, "code", count, unknown=False)
    if count and (codes.min() < NO_ANSWER or codes.max() > MAX_CODE):
        raise ValueError("code holds what is no code")
    return codes.astype(EMPTY.code.dtype)


def _column(values: object, name: str, count: int, *, unknown: bool) -> Floats:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} is not as long as intended")
    if not {type(value) for value in values} <= ({int, type(None)} if unknown else {int}):
        raise ValueError(f"{name} holds what is no whole number")
    try:
        column = np.array(values, np.float64)
    except OverflowError:
        column = np.array([np.inf])
    if (np.abs(column) > MAX_TIME).any():
        raise ValueError(f"{name} holds a number that is too large")
    return column
