"""NVIDIA's perf_analyzer, if it is on PATH or PERF_ANALYZER names it: a client in C++ that is not ours."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from pathlib import Path

from tests.bench.commands.observed import observed
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.serving.server import Server

WINDOWS = 3
"""It measures at least so many windows of time, and ends when they agree; here they always do."""


def program() -> str | None:
    named = os.environ.get("PERF_ANALYZER", "perf_analyzer")
    return shutil.which(named)


def is_there() -> bool:
    return program() is not None


def perf_analyzer_turn(server: Server, seconds: float, kind: str, in_flight: int) -> Turn:
    """Unary calls, or one `stream` for all. Raises TurnFailed."""
    found = program()
    if found is None:
        raise TurnFailed("perf_analyzer is not on PATH, and PERF_ANALYZER does not name it")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        command = [found, "-i", "grpc", "-u", server.address, "-m", "am", "--shape", "x:1,16", "--shape", "y:1,16"]
        command += ["--async", "--concurrency-range", str(in_flight), "-f", str(table)]
        command += ["-p", str(round(seconds * 1e3 / 2)), "--stability-percentage", "900"]
        command += ["--streaming"] if kind == "stream" else []
        run = observed(command, server, "am")
        row = next(csv.DictReader(table.read_text().splitlines()), None) if table.exists() else None
    if row is None:
        raise TurnFailed("perf_analyzer has written no figures")
    measured = seconds * WINDOWS / 2
    requests = round(float(row["Inferences/Second"]) * measured)
    p50, p99 = (float(row[f"{name} latency"]) / 1e6 for name in ("p50", "p99"))
    used = None if run.server_us is None else run.server_us * requests / 1e6
    return Turn(requests, measured, p50, p99, used)
