"""A run as a line of the history."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.measuring.echo_mode import EchoModes
from tests.bench.measuring.noise import NoiseVerdict
from tests.bench.measuring.ratio import Ratio
from tests.bench.measuring.rounds import Measured
from tests.bench.measuring.spread import spread
from tests.bench.measuring.turn import Figure, Turn
from tests.bench.serving.ways import Way
from tests.machine import commit, processor_name

PACKAGES = ("headrace", "grpcio", "protobuf", "openvino", "numpy")
VERSION = 1
"""Of the form of a line."""
Entry = dict[str, Any]


def entry_of(
    measured: Sequence[Measured], ratios: Sequence[Ratio], noise: NoiseVerdict, echo: EchoModes, ways: Sequence[Way]
) -> Entry:
    """All that a run has measured, and where."""
    return {
        "headrace-bench": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {"processor": processor_name(), "cores": len(os.sched_getaffinity(0))},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "ways": {way.name: way.text for way in ways},
        "noise": asdict(noise) | {"verdict": noise.name},
        "echo": {"mode": echo.name, "fast_turns": echo.fast, "turns": len(echo.modes)},
        "figures": [_figure(each) for each in measured],
        "ratios": [_ratio(each) for each in ratios],
    }


def append(entry: Entry, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(entry, allow_nan=False) + "\n")


def read(file: Path) -> list[Entry]:
    """All entries of this form, the oldest first; empty if there is no file.

    A line that was cut off, by a full disk or an interruption, is no entry.
    """
    if not file.exists():
        return []
    entries = []
    for line in file.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and entry.get("headrace-bench") == VERSION:
            entries.append(entry)
    return entries


def _figure(measured: Measured) -> Entry:
    case, rounds = measured.case, list(measured.rounds.values())
    known: Entry = {"case": case.name, "title": case.title, "way": measured.way, "missing": measured.missing}
    if not rounds:
        return known
    known |= _side("", case.figure, [each.turn for each in rounds])
    names = rounds[0].turn.beside
    known["beside"] = {name: spread([each.turn.beside[name] for each in rounds]).median for name in names}
    references = [each.reference for each in rounds if each.reference is not None]
    if case.reference is not None and references:
        known |= {"reference": case.reference.title} | _side("reference_", case.reference.figure, references)
    return known


def _side(prefix: str, figure: Figure, turns: Sequence[Turn]) -> Entry:
    server = [turn.server_us for turn in turns if turn.server_us is not None]
    client = [turn.client_us for turn in turns if turn.client_us is not None]
    return {
        f"{prefix}unit": figure.unit,
        f"{prefix}values": [round(figure.of(turn), 4) for turn in turns],
        f"{prefix}server_us": round(spread(server).median, 3) if server else None,
        f"{prefix}client_us": round(spread(client).median, 3) if client else None,
    }


def _ratio(ratio: Ratio) -> Entry:
    return {
        "name": ratio.name,
        "title": ratio.title,
        "way": ratio.way,
        **{name: round(value, 5) for name, value in asdict(ratio.spread).items()},
        **asdict(ratio.bound),
        "verdict": str(ratio.verdict),
        "notes": ratio.notes,
        "rounds": ratio.rounds,
    }
