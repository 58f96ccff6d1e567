"""Turns command-line options into phases and counts, with the defaults of what was left out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.formatting import counted
from headrace.client.load.planning.parsing import parse_rate, parse_sweep
from headrace.client.load.planning.phases import Arrivals, ClosedLoop, OpenLoop, Phase
from headrace.client.load.planning.rate_search import FIRST_RATE, SearchPlan, TrialSamples
from headrace.client.terminal.usage_error import UsageError

DEFAULT_DURATION = 10.0
"""Seconds of a phase, if neither a duration nor a count is given."""
DEFAULT_WINDOW = 256
"""Requests of an open loop in flight per stream."""


def choose_phases(
    rate: str | None,
    arrivals: Arrivals,
    concurrency: int | None,
    sweep: str | None,
    warmup: float,
    duration: float | None,
    count: int | None,
    repeat: int = 1,
) -> tuple[Phase, ...]:
    """The phases of a run; one request at a time if no load is given. Raises UsageError.

    With `repeat`, all loads follow each other again and again, so that whatever changes slowly meets all of them alike.
    """
    loads = {"--rate": rate, "--concurrency": concurrency, "--sweep": sweep}
    given = [name for name, value in loads.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot be combined: choose one load")
    if duration is not None and count is not None:
        raise UsageError("--duration and --count cannot be combined: choose one")
    if duration is None and count is None:
        duration = DEFAULT_DURATION
    if rate is not None:
        return (Phase(OpenLoop(*parse_rate(rate), arrivals), warmup, duration, count),) * repeat
    points = [concurrency or 1] if sweep is None else parse_sweep(sweep)
    return tuple(Phase(ClosedLoop(point), warmup, duration, count) for point in points) * repeat


def choose_search(
    rate: str | None,
    arrivals: Arrivals,
    concurrency: int | None,
    sweep: str | None,
    warmup: float,
    duration: float | None,
    count: int | None,
    repeat: int,
    samples: TrialSamples,
) -> SearchPlan:
    """How a search for a rate runs its trials, of which each needs so many requests. Raises UsageError."""
    if repeat > 1:
        raise UsageError("--search and --repeat cannot be combined: a search repeats what is close by itself")
    options = {"--concurrency": concurrency, "--sweep": sweep, "--count": count}
    for name in (name for name, value in options.items() if value is not None):
        raise UsageError(f"--search and {name} cannot be combined: a search tries rates for a --duration")
    first, last = (FIRST_RATE, FIRST_RATE) if rate is None else parse_rate(rate)
    if first != last:
        raise UsageError("--search begins with one --rate, as in 200/s, not with a ramp")
    plan = SearchPlan(first, arrivals, warmup, duration, samples)
    if rate is not None and first < plan.lowest:
        raise UsageError(
            f"the trials of this --search need {samples.least:,} requests or more: "
            f"begin with a --rate of {plan.lowest:,.3g}/s or more, or try a longer --duration"
        )
    return plan


def choose_window(window: int | None, streams: int, phases: Sequence[Phase]) -> int:
    """The window of each stream, by default just what the loads need.

    Raises UsageError if the given window is too small.
    """
    concurrency = max((phase.load.concurrency for phase in phases if isinstance(phase.load, ClosedLoop)), default=0)
    needed = -(-concurrency // streams)
    if window is None:
        return needed or DEFAULT_WINDOW
    if window < needed:
        raise UsageError(
            f"{counted(streams, 'stream')} with a window of {window} cannot keep {concurrency} requests in flight"
        )
    return window


def choose_streams(streams: int | None, processes: int) -> int:
    """The number of streams of all processes together, by default one per process.

    Raises UsageError if there are fewer streams than processes.
    """
    if streams is None:
        return processes
    if streams < processes:
        raise UsageError(f"--streams is {streams}, but each of {processes} processes needs at least one stream")
    return streams
