"""The Open Inference Protocol with perf_analyzer, where it is installed."""

from __future__ import annotations

from tests.bench.cases.case import Case, Setting
from tests.bench.cases.small_models import ADD_MULTIPLY
from tests.bench.commands.perf_analyzer import is_there, perf_analyzer_turn
from tests.bench.measuring.turn import Turn
from tests.bench.serving.server import Server


def _case(kind: str, in_flight: int) -> Case:
    def turn(setting: Setting, server: Server) -> Turn:
        return perf_analyzer_turn(server, setting.seconds, kind, in_flight)

    title = f"perf_analyzer, {kind}, {in_flight} in flight"
    return Case(f"perf-{kind}-{in_flight}", title, ADD_MULTIPLY, turn, rounds=3, needs=is_there)


CASES = [_case(kind, in_flight) for kind in ("unary", "stream") for in_flight in (1, 8, 32)]
