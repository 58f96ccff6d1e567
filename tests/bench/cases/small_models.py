"""Many tiny inferences, which frames are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import models
from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.cases.echoes import echoed_stream
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.turn import P50, Turn
from tests.bench.references.benchmark_app import BenchmarkApp
from tests.bench.serving.server import Server


def add_multiply(folder: Path) -> list[str]:
    return [f"am={models.add_multiply(folder)}"]


ADD_MULTIPLY = Serving(add_multiply)
IN_PROCESS = BenchmarkApp(lambda folder: folder / "add_multiply.xml", "-shape", "x[1,16],y[1,16]")


def _coroutines(workers: int) -> Callable[[Setting, Server], Turn]:
    return lambda setting, server: server.turn("clients.coroutines", setting.seconds, workers=workers)


CASES = [
    Case(
        "frames-256",
        "add/multiply, 256 coroutines",
        ADD_MULTIPLY,
        _coroutines(256),
        reference=echoed_stream(32),
        bound=Bound(10, 15),
        compiled=Bound(1.3, 1.8),
        rounds=7,
    ),
    Case(
        "frames-32",
        "add/multiply, 32 coroutines",
        ADD_MULTIPLY,
        _coroutines(32),
        reference=echoed_stream(32),
        bound=Bound(4, 6),
        compiled=Bound(1.25, 1.6),
        rounds=7,
    ),
    Case(
        "window-1",
        "add/multiply, window 1, p50",
        ADD_MULTIPLY,
        _coroutines(1),
        P50,
        echoed_stream(1, P50),
        Bound(1.15, 1.0, less=True),
        rounds=7,
    ),
    Case(
        "frames-256-runtime",
        "add/multiply, 256 coroutines",
        ADD_MULTIPLY,
        _coroutines(256),
        reference=Reference("benchmark_app", IN_PROCESS),
        rounds=3,
    ),
]
