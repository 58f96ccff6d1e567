"""Requests that come when they come: live audio, and a plan of half of what is possible."""

from __future__ import annotations

from tests.bench.cases.case import Case, Reference, Setting
from tests.bench.cases.chains import CHAINS
from tests.bench.cases.small_models import ADD_MULTIPLY
from tests.bench.commands.load_test import half_load
from tests.bench.measuring.bounds import NO_BOUND, Bound
from tests.bench.measuring.turn import P50, P99, SERVER_TIME, Turn
from tests.bench.serving.server import Server

CHUNK_SECONDS = 0.032


def _microphones(setting: Setting, server: Server, number: int, streams: str, interval: float = CHUNK_SECONDS) -> Turn:
    client = "clients.microphones"
    return server.turn(client, 2 * setting.seconds, microphones=number, streams=streams, interval=interval)


def _half_load(name: str, title: str, protocol: str) -> Case:
    def turn(setting: Setting, server: Server) -> Turn:
        return half_load(server, protocol, setting.seconds, in_flight=32)

    reference = Reference("p50", figure=P50)
    return Case(name, title, ADD_MULTIPLY, turn, P99, reference, Bound(4, 2.5, less=True), rounds=3)


HALF_LOAD = [
    _half_load("half-load-frames", "half of what an open loop gets through, by frames: p99", "headrace"),
    _half_load("half-load-stream", "half of what an open loop gets through, by ModelStreamInfer: p99", "oip"),
]
AUDIO = [
    Case(
        "microphones-32",
        "32 live microphones, a stream each: server's time a chunk",
        CHAINS,
        lambda setting, server: _microphones(setting, server, 32, "each"),
        SERVER_TIME,
        Reference(
            "together on one",
            turn_of_server=lambda setting, server: _microphones(setting, server, 32, "together"),
            figure=SERVER_TIME,
        ),
        NO_BOUND,
        rounds=3,
    ),
    Case(
        "live-audio",
        "one live microphone, p50",
        CHAINS,
        lambda setting, server: _microphones(setting, server, 1, "each"),
        P50,
        Reference(
            "without pauses",
            turn_of_server=lambda setting, server: _microphones(setting, server, 1, "each", 0.0),
            figure=P50,
        ),
        NO_BOUND,
        rounds=3,
    ),
]
