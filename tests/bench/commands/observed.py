"""A command that is a client of a server, and what the server did meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.measuring.client_turn import processor_seconds
from tests.bench.measuring.turn import TurnFailed
from tests.bench.serving.server import Server

PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Observed:
    output: str
    server_us: float | None
    """Of processor time, for an inference of the whole run with its warm-up."""


def observed(command: Sequence[str], server: Server, model: str) -> Observed:
    """Run a command that asks a server for inferences of one model. Raises TurnFailed."""
    inferences, used = server.inferences(model), processor_seconds(server.pid)
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise TurnFailed(f"{command[0]} has not ended within {PATIENCE_SECONDS:g} s") from None
    if ended.returncode:
        errors = (ended.stderr or ended.stdout).strip().rpartition("\n")[2]
        raise TurnFailed(f"{command[0]} has ended with {ended.returncode}: {errors}")
    done = server.inferences(model) - inferences
    return Observed(ended.stdout, (processor_seconds(server.pid) - used) / done * 1e6 if done else None)
