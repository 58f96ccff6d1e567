"""In which of its two modes a stream of the gRPC echo was.

By where the scheduler puts the threads of a connection, a message of the same echo takes either of two times, for as
long as the connection lasts. A ratio to a slow echo flatters the server, so ratios count in the fast mode.

The limits lie between the modes as they were seen, on a processor that does the fixed loop of `noise.py` in
USUAL_SECONDS; on another one they are scaled by what the loop takes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.measuring.turn import Turn

ROUND_TRIP_US = 145.0
"""One message in flight: a round trip takes 112 to 125 us in the fast mode, 165 to 230 in the slow one."""
MESSAGE_US = 95.0
"""32 in flight: 70 us a message in the fast mode, about 125 in the slow one."""


@dataclass(frozen=True, slots=True)
class EchoMode:
    fast: bool
    took_us: float
    limit_us: float

    def __str__(self) -> str:
        return f"{'fast' if self.fast else 'slow'} ({self.took_us:.0f} us; fast up to {self.limit_us:.0f})"


def mode_of(turn: Turn, in_flight: int, speed: float) -> EchoMode:
    """The mode of a turn of the echo's stream. `speed`: how much slower than usual the processor is."""
    took = (turn.p50 or 0.0) if in_flight == 1 else turn.seconds / turn.requests
    limit = (ROUND_TRIP_US if in_flight == 1 else MESSAGE_US) * speed
    return EchoMode(took * 1e6 <= limit, took * 1e6, limit)


@dataclass(frozen=True, slots=True)
class EchoModes:
    """The modes of all turns of a run."""

    modes: Sequence[EchoMode]

    @property
    def fast(self) -> int:
        return sum(each.fast for each in self.modes)

    @property
    def name(self) -> str:
        """fast or slow if nearly all turns were; else both."""
        share = self.fast / len(self.modes) if self.modes else 0.0
        return "not measured" if not self.modes else "fast" if share >= 0.9 else "slow" if share <= 0.1 else "both"

    def __str__(self) -> str:
        if not self.modes:
            return "No case needed the stream of the echo."
        counted = f"{self.fast} of {len(self.modes)} turns of the echo's stream were in its fast mode"
        rule = f"a round trip up to {ROUND_TRIP_US:g} us, or {MESSAGE_US:g} us a message with 32 in flight, "
        rule += "scaled by the processor's speed"
        if self.name == "fast":
            return f"{counted} ({rule})."
        left = "Ratios to it count only the fast ones if there are three"
        return f"{counted} ({rule}). {left}; those to a slow echo flatter the server."
