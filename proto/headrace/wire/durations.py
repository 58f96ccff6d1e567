"""Durations as messages hold them: whole microseconds in 64 bits. Pure."""

from __future__ import annotations

import math

FOR_EVER_US = (1 << 64) - 1
"""The number that stands for a duration without an end."""

_MAX_TIMEOUT_US = 2**63


def microseconds(seconds: float) -> int:
    """A duration for a message; FOR_EVER_US when it does not fit into 64 bits."""
    return FOR_EVER_US if seconds * 1e6 >= FOR_EVER_US else max(0, round(seconds * 1e6))


def timeout_us(seconds: float | None) -> int:
    """A timeout for a request, where 0 means none: a timeout that has already passed (0 or less) becomes 1.

    Raises ValueError for NaN.
    """
    return 0 if seconds is None else max(1, round(min(seconds * 1e6, _MAX_TIMEOUT_US)))


def seconds_of(microseconds: int) -> float:
    """A duration from a message, in seconds; infinite for FOR_EVER_US."""
    return math.inf if microseconds == FOR_EVER_US else microseconds / 1e6
