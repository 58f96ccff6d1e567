"""How long requests were due. Pure."""

from __future__ import annotations

from headrace.client.load.planning.phases import OpenLoop
from headrace.client.load.record.run import Outcome


def plan_span(outcome: Outcome) -> float:
    """The seconds in which requests were due; in a closed loop, the whole phase."""
    load, phase = outcome.phase.load, outcome.phase
    if not isinstance(load, OpenLoop):
        return phase.duration if phase.duration and not outcome.interrupted else outcome.elapsed
    mean = (load.first + load.last) / 2
    span = phase.duration if phase.duration is not None else (phase.count or 0) / mean
    return min(span, outcome.elapsed) if outcome.interrupted else span
