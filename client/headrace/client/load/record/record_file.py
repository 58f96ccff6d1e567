"""A run as a file: JSON Lines, written while the run goes on, so that a crash loses only the line being written.

    {"headrace-load": 1, "settings": {...}}                   the first line; the number is the version of the format
    {"phase": 0, "begin": {"load": {...}, "warmup": 1.0, "duration": 10.0, "count": null}, "began": 1763843220.51}
    {"phase": 0, "intended": [0, 5000], "sent": [12, null], "ended": [4100, 9006], "code": [0, 14],
     "waiting": null, "queued": [90, null], "running": [900, null], "connection": [0, 4006]}   any number of these
    {"phase": 0, "server_load": {"moment": 1.0, "resident_bytes": 412000256, ...}}            any number of these too
    {"phase": 0, "over": {"planned": 2, "unsent": 0, "elapsed": 10.0, "messages": {"8": "..."}, ...}}

Columns hold integer microseconds and up to 1,000 samples. An unknown time is null, and so is a column of unknown times.
A request that was never sent has `sent` null. If `code` is missing, all requests succeeded; if `window`,
`connection`, `network` or `machine` is, none of them waited for that. `began` is the clock time of time 0, in seconds
since 1970 (UTC). All other times are in seconds.

Why JSON Lines: any program that reads JSON can read it, a person can check its numbers, and a truncated file is still a
record. One object per request would repeat the same seven names, at nearly three times the size and six times the
reading time. A binary file would be a third smaller, but only this program could look into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.decoding import decode
from headrace.client.load.record.run import Outcome, Run, RunSettings, ServerLoad, ServerMeans, Tail
from headrace.client.load.record.samples import COLUMNS, NO_ANSWER, NO_SAMPLES, Floats, Integers, Samples, Waits
from headrace.client.load.record.spool import SampleSpool
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

FORMAT = "headrace-load"
VERSION = 1
SAMPLES_PER_LINE = 1_000
MICROSECONDS = 1e6
MAX_LINE_BYTES = 1 << 22
"""No record has a longer line, so a file of another kind is recognised without reading all of it."""
MAX_TIME_US = 1 << 53
"""Above this, a float does not represent every whole microsecond."""
MAX_CODE = 1_000
"""gRPC has 17 status codes."""
KNOWN_TIMES = ("intended", "ended")
WAIT_COLUMNS = Waits._fields
TIME_COLUMNS = tuple(name for name in COLUMNS if name not in ("code", *WAIT_COLUMNS))


class RecordWriter:
    """Writes a run to a text file. Each call reaches the file before it returns."""

    def __init__(self, file: TextIO, settings: RunSettings) -> None:
        self._file = file
        self._phases = 0
        self._write({FORMAT: VERSION, "settings": asdict(settings)})

    def begin_phase(self, phase: Phase, began: float | None = None) -> int:
        """Begin the next phase and return its number, counting from 0. `began`: time 0 of its measured part."""
        number, self._phases = self._phases, self._phases + 1
        self._write({"phase": number, "begin": asdict(phase), "began": began})
        return number

    def add(self, number: int, samples: Samples) -> None:
        """Write more samples of a phase that has not ended."""
        for start in range(0, samples.count, SAMPLES_PER_LINE):
            rows = samples.select(np.arange(start, min(start + SAMPLES_PER_LINE, samples.count)))
            columns: dict[str, Any] = {name: _microseconds(getattr(rows, name)) for name in TIME_COLUMNS}
            if rows.code.any():
                columns["code"] = rows.code.tolist()
            columns |= {name: _microseconds(waits) for name in WAIT_COLUMNS if (waits := getattr(rows, name)).any()}
            self._write({"phase": number, **columns})

    def add_server_load(self, number: int, load: ServerLoad) -> None:
        """Write what the server said about itself during a phase that has not ended."""
        self._write({"phase": number, "server_load": asdict(load)})

    def end_phase(self, number: int, outcome: Outcome) -> None:
        """Write everything about the outcome but its samples, which `add` has written."""
        named = {name: getattr(outcome, name) for name in _TOTALS}
        self._write({"phase": number, "over": asdict(_PhaseTotals(**named))})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()


def read_record(path: Path) -> Run:
    """Read a run from a file. Raises UsageError, which names the file and the line.

    A phase without an end was interrupted; its plan is taken to be what it sent.
    """
    try:
        run = _read_lines(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if not run.outcomes:
        raise UsageError(f"{path} contains no phase: its run ended before anything was measured")
    return run


def _read_lines(path: Path) -> Run:
    reader = None
    for number, line in _lines(path):
        try:
            if reader is None:
                reader = _RecordReader(_decode_settings(line))
            else:
                reader.take(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    if reader is None:
        raise UsageError(f"{path} is empty")
    return reader.run(str(path))


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Each line with its number, counting from 1. An incomplete last line is left out."""
    with path.open("rb") as file:
        number = 0
        while text := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                raise UsageError(f"{path}, line {number}: this is not a record of headrace load: the line is too long")
            try:
                line = json.loads(text.decode())
            except (ValueError, RecursionError):
                if number > 1 and not text.endswith(b"\n"):
                    return
                raise UsageError(f"{path}, line {number}: this is not JSON, so not a record of headrace load") from None
            yield number, line


def _decode_settings(line: object) -> RunSettings:
    """The settings in the first line."""
    if not isinstance(line, dict) or FORMAT not in line:
        raise ValueError("this is not a record of headrace load")
    if line[FORMAT] != VERSION:
        raise ValueError(
            f"the record has format version {quote(line[FORMAT])}, but this headrace reads version {VERSION}"
        )
    settings: RunSettings = decode(RunSettings, line.get("settings"), "settings")
    return settings


@dataclass(slots=True)
class _PhaseTotals:
    """An Outcome without its phase and samples."""

    planned: int
    unsent: int
    elapsed: float
    messages: dict[int, str]
    server: ServerMeans | None
    interrupted: bool
    tails: tuple[Tail, ...]


_TOTALS = tuple(field.name for field in fields(_PhaseTotals))


class _RecordReader:
    """Builds a run from the lines that follow the first. Raises ValueError."""

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._outcomes: list[Outcome] = []
        self._phase: Phase | None = None
        self._began: float | None = None
        self._server_loads: list[ServerLoad] = []
        self._spool = SampleSpool()

    def take(self, line: object) -> None:
        if not isinstance(line, dict) or type(line.get("phase")) is not int:
            raise ValueError("this is not a line of a record")
        if line["phase"] != len(self._outcomes) or ("begin" in line) != (self._phase is None):
            raise ValueError(f"this line is out of place: phase {line['phase']} has not begun or has already ended")
        if self._phase is None:
            self._phase = decode(Phase, line["begin"], "begin")
            self._began = decode(float | None, line.get("began"), "began")
        elif "server_load" in line:
            self._server_loads.append(decode(ServerLoad, line["server_load"], "server_load"))
        elif "over" in line:
            self._end_phase(decode(_PhaseTotals, line["over"], "over"), self._spool.take())
        else:
            self._spool.add(_decode_samples(line))

    def run(self, name: str) -> Run:
        if self._phase is not None:
            samples = self._spool.take()
            elapsed = max((float(chunk.ended.max(initial=0.0)) for chunk in samples.chunks()), default=0.0)
            self._end_phase(_PhaseTotals(samples.count, 0, elapsed, {}, None, interrupted=True, tails=()), samples)
        return Run(self._settings, self._outcomes, name)

    def _end_phase(self, totals: _PhaseTotals, samples: Samples) -> None:
        if self._phase is None or min(totals.planned, totals.unsent, totals.elapsed) < 0:
            raise ValueError("a count is negative")
        named = {name: getattr(totals, name) for name in _TOTALS}
        outcome = Outcome(self._phase, samples=samples, **named)
        outcome.began, outcome.server_loads = self._began, self._server_loads
        self._outcomes.append(outcome)
        self._phase, self._server_loads = None, []


def _microseconds(times: Floats) -> list[int | None] | None:
    """Seconds as whole microseconds; None for a column without any known time."""
    known = np.isfinite(times)
    if not known.any():
        return None
    whole: list[int | None] = np.rint(np.where(known, times, 0.0) * MICROSECONDS).astype(np.int64).tolist()
    for at in np.flatnonzero(~known).tolist():
        whole[at] = None
    return whole


def _decode_samples(line: dict[str, Any]) -> Samples:
    for name in line.keys() - {"phase", *COLUMNS}:
        raise ValueError(f"{quote(name)} is not a known column")
    intended = line.get("intended")
    if not isinstance(intended, list):
        raise ValueError("intended is not a list")
    if "sent" not in line:
        raise ValueError("sent is missing")
    columns = {name: _decode_times(line.get(name), name, len(intended)) for name in TIME_COLUMNS}
    columns |= {name: _decode_waits(line.get(name), name, len(intended)) for name in WAIT_COLUMNS}
    return Samples(**columns, code=_decode_codes(line.get("code"), len(intended)))


def _decode_times(values: object, name: str, count: int) -> Floats:
    if values is None and name not in KNOWN_TIMES:
        return np.full(count, np.nan)
    return _decode_column(values, name, count, nullable=name not in KNOWN_TIMES) / MICROSECONDS


def _decode_waits(values: object, name: str, count: int) -> Floats:
    if values is None:
        return np.zeros(count)
    return _decode_column(values, name, count, nullable=False) / MICROSECONDS


def _decode_codes(values: object, count: int) -> Integers:
    codes = np.zeros(count) if values is None else _decode_column(values, "code", count, nullable=False)
    if count and (codes.min() < NO_ANSWER or codes.max() > MAX_CODE):
        raise ValueError("code contains a value that is not a status code")
    return codes.astype(NO_SAMPLES.code.dtype)


def _decode_column(values: object, name: str, count: int, *, nullable: bool) -> Floats:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} is not a list as long as intended")
    if not {type(value) for value in values} <= ({int, type(None)} if nullable else {int}):
        raise ValueError(f"{name} contains a value that is not a whole number")
    try:
        column = np.array(values, np.float64)
    except OverflowError:
        column = np.array([np.inf])
    if (np.abs(column) > MAX_TIME_US).any():
        raise ValueError(f"{name} contains a number that is too large")
    return column
