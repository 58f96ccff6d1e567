"""Recurrent chains, whose state stays on the server."""

from __future__ import annotations

from pathlib import Path

from tests.bench.cases.case import Case, Reference, Serving, Setting
from tests.bench.measuring.bounds import Bound
from tests.bench.measuring.client_turn import client_turn
from tests.bench.measuring.turn import Turn, beside
from tests.bench.serving.server import Server
from tests.packaged_models import packaged

SILERO = ("silero_vad", "data", "silero_vad_openvino_16k.onnx")


def _arguments(_: Path) -> list[str]:
    return [f"silero={packaged(*SILERO)}"]


CHAINS = Serving(_arguments)


def _one(setting: Setting, server: Server) -> Turn:
    return server.turn("clients.chains", setting.seconds, chains=1, ahead=32)


def _many(setting: Setting, server: Server) -> Turn:
    return server.turn("clients.chains", setting.seconds, chains=64, ahead=8)


def _in_process(setting: Setting) -> Turn:
    return client_turn("references.silero_loop", str(packaged(*SILERO)), setting.seconds)


CASES = [
    Case(
        "chain",
        "Silero chain, 32 ahead",
        CHAINS,
        _one,
        reference=Reference("in-process loop", _in_process),
        bound=Bound(0.8, 0.95),
        compiled=Bound(1.15, 1.4),
    ),
    Case(
        "chains-64",
        "64 Silero chains",
        CHAINS,
        _many,
        reference=Reference("one chain", turn_of_server=_one),
        bound=Bound(1.0, 1.2),
    ),
    Case(
        "chains-fairness",
        "64 Silero chains, steps of the slowest",
        CHAINS,
        _many,
        beside("slowest"),
        Reference("the fastest's", figure=beside("fastest")),
        Bound(0.67),
        rounds=3,
    ),
]
