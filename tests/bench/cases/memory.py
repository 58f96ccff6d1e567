"""What streams and inferences leave in the memory of a server that has done nothing else."""

from __future__ import annotations

from pathlib import Path

from tests import models
from tests.bench.cases.case import Case, Serving, Setting
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.turn import Turn, beside
from tests.bench.serving.memory import resident_bytes
from tests.bench.serving.server import Server

IDLE_STREAMS = 1000
FIRST, REST = 100_000, 900_000
MOST_SECONDS = 600.0
"""For each part of a million inferences."""


def _new_server() -> Serving:
    """Equal to no other, so that its server is one of its own."""

    def arguments(folder: Path) -> list[str]:
        return [f"am={models.add_multiply(folder)}"]

    return Serving(arguments)


def _idle(setting: Setting, server: Server) -> Turn:
    return server.turn("clients.idle_streams", setting.seconds, streams=IDLE_STREAMS, server_pid=server.pid)


def _million(_: Setting, server: Server) -> Turn:
    server.turn("clients.coroutines", MOST_SECONDS, workers=256, count=FIRST)
    before = resident_bytes(server.pid)
    turn = server.turn("clients.coroutines", MOST_SECONDS, workers=256, count=REST)
    growth = {"growth": resident_bytes(server.pid) / before}
    return Turn(turn.requests, turn.seconds, None, None, turn.server_seconds, turn.client_seconds, growth)


CASES = [
    # Streams of a second round reuse the memory of the first ones, so only those show what a stream costs.
    Case(
        "idle-stream",
        "an idle stream, KiB",
        _new_server(),
        _idle,
        beside("kib", "KiB", less=True),
        bound=Bound(32, 24, less=True),
        once=True,
    ),
    Case(
        "million",
        "memory after 1 M inferences over 100 k",
        _new_server(),
        _million,
        beside("growth", less=True),
        bound=Bound(1.02, 1.005, less=True),
        once=True,
        slow=True,
    ),
]
