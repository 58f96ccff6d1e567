"""What is written on a command line, and what is meant where nothing is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.plan import parse_rate, parse_sweep
from headrace.client.load.report.formats import counted
from headrace.client.load.run import Arrivals, ClosedLoop, OpenLoop, Phase
from headrace.client.terminal.usage_error import UsageError

DURATION = 10.0
"""Seconds of a phase for which nobody has said how long it takes."""
WINDOW = 256
"""Requests of an open loop that a stream may have in flight."""


def phases_of(
    rate: str | None,
    arrivals: Arrivals,
    concurrency: int | None,
    sweep: str | None,
    warmup: float,
    duration: float | None,
    count: int | None,
) -> tuple[Phase, ...]:
    """One request at a time where no load is named. Raises UsageError."""
    loads = {"--rate": rate, "--concurrency": concurrency, "--sweep": sweep}
    said = [name for name, value in loads.items() if value is not None]
    if len(said) > 1:
        raise UsageError(f"{' and '.join(said)} are different loads: write one of them")
    if duration is not None and count is not None:
        raise UsageError("--duration and --count both say how long it takes: write one of them")
    if duration is None and count is None:
        duration = DURATION
    if rate is not None:
        return (Phase(OpenLoop(*parse_rate(rate), arrivals), warmup, duration, count),)
    points = [concurrency or 1] if sweep is None else parse_sweep(sweep)
    return tuple(Phase(ClosedLoop(point), warmup, duration, count) for point in points)


def window_of(window: int | None, streams: int, phases: Sequence[Phase]) -> int:
    """The window of each stream: what the loads need, where nobody says. Raises UsageError when it is too small."""
    concurrency = max((phase.load.concurrency for phase in phases if isinstance(phase.load, ClosedLoop)), default=0)
    needed = -(-concurrency // streams)
    if window is None:
        return needed or WINDOW
    if window < needed:
        raise UsageError(
            f"{concurrency} requests in flight do not fit in {counted(streams, 'stream')} with a window of {window}"
        )
    return window


def streams_of(streams: int | None, processes: int) -> int:
    """All streams together: one for each process, where nobody says. Raises UsageError."""
    if streams is None:
        return processes
    if streams < processes:
        raise UsageError(f"each of {processes} processes needs a stream, and --streams is {streams}")
    return streams
