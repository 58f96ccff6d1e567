"""`headrace load`: latency in an open loop, from when a request was due."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.commands.observed import Observed, observed
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.serving.server import Server

HERE = Path(sys.executable).with_name("headrace")
INPUTS = ("--shape", "x:1,16", "--shape", "y:1,16", "--output", "sum")
WARM_UP = 0.3


def half_load(server: Server, protocol: str, seconds: float, in_flight: int) -> Turn:
    """An open loop at half of the most that one gets through, found just before. Raises TurnFailed.

    That is tried with as much as a closed one with so many in flight gets through. By frames, this is more than a
    client can send one by one: then it is the limit, not the server.
    """
    _, closed = _load(server, protocol, seconds, "--concurrency", str(in_flight))
    _, most = _load(server, protocol, seconds, "--rate", f"{closed['throughput_per_s']:.0f}/s")
    rate = min(closed["throughput_per_s"], most["throughput_per_s"]) / 2
    run, phase = _load(server, protocol, 2 * seconds, "--rate", f"{rate:.0f}/s")
    answered, elapsed, latency = phase["ok"], phase["elapsed_ms"] / 1e3, phase["latency"]
    if phase["errors"] or not latency or latency["p99_ms"] is None:
        raise TurnFailed(f"{answered} of {phase['planned']} requests were answered")
    if phase["growth"] and phase["growth"]["grew"]:
        # All requests of a queue that only grows wait about as long, which would look like a short tail.
        raise TurnFailed("latency grew all the time: half of what it took a moment ago was too much")
    used = None if run.server_us is None else run.server_us * answered / 1e6
    beside = {
        "rate": rate,
        "of_closed_loop": rate / closed["throughput_per_s"],
        "plan_kept_percent": phase["plan_kept_percent"],
    }
    return Turn(answered, elapsed, latency["p50_ms"] / 1e3, latency["p99_ms"] / 1e3, used, beside=beside)


def _load(server: Server, protocol: str, seconds: float, *load: str) -> tuple[Observed, dict[str, Any]]:
    command: Sequence[str] = [
        *(str(HERE), "load", server.address, "am", "--json", "--protocol", protocol, *INPUTS),
        *("--warmup", str(WARM_UP), "--duration", str(seconds), *load),
    ]
    run = observed(command, server, "am")
    phase: dict[str, Any] = json.loads(run.output)["runs"][0]["phases"][0]
    return run, phase
