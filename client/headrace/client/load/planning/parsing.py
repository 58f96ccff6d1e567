"""Rates and sweeps as they are written on a command line. Pure."""

from __future__ import annotations

import re

from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
MIN_RATE, MAX_RATE = 1 / 3600, 1e6
"""Requests per second."""
MAX_SWEEP_POINTS = 64
MAX_CONCURRENCY = 65536

_RATE = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*", re.IGNORECASE)


def parse_rate(text: str) -> tuple[float, float]:
    """Parse `200/s`, `200`, `12/m` or `50..500/s`: the first and the last rate, in requests per second.

    Raises UsageError.
    """
    rates, _, unit = text.partition("/")
    first, ramp, last = rates.partition("..")
    numbers = [_RATE.fullmatch(rate) for rate in ((first, last) if ramp else (first, first))]
    seconds = UNIT_SECONDS.get(unit.strip() or ("" if "/" in text else "s"))
    if seconds is None or not all(numbers):
        raise UsageError(f"{quote(text)} is not a rate; write 200/s, 12/m, or 50..500/s for a ramp")
    first_rate, last_rate = (float(number[1]) / seconds for number in numbers if number)
    if not all(MIN_RATE <= rate <= MAX_RATE for rate in (first_rate, last_rate)):
        raise UsageError(f"rate {quote(text)} is out of range: it must be between 1/h and {MAX_RATE:.0f}/s")
    return first_rate, last_rate


def parse_sweep(text: str) -> list[int]:
    """Parse the concurrencies of `1,2,4,8`. Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise UsageError(f"{quote(text)} is not a sweep; separate the concurrencies with commas, as in 1,2,4,8")
    points = [int(word) for word in words]
    if not all(1 <= point <= MAX_CONCURRENCY for point in points):
        raise UsageError(f"{quote(text)} is out of range: a concurrency must be between 1 and {MAX_CONCURRENCY}")
    if len(points) > MAX_SWEEP_POINTS:
        raise UsageError(f"a sweep has at most {MAX_SWEEP_POINTS} points, but this one has {len(points)}")
    return points
