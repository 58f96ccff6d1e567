"""Durations as applications give them: any number, NumPy's and infinity included. Pure."""

from __future__ import annotations

import math
from typing import SupportsFloat

MAX_CLOCK_SECONDS = 1e8
"""Three years. What waits longer than this waits without a timer: not every clock can count so far."""


def seconds(value: SupportsFloat, name: str = "timeout") -> float:
    """A duration as a float of Python. Raises ValueError for NaN, and TypeError for what is not a number."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} is {value!r}; it must be a number of seconds")
    try:
        number = float(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be a number of seconds") from None
    if math.isnan(number):
        raise ValueError(f"{name} is not a number of seconds (NaN)")
    return number


def clock_seconds(duration: SupportsFloat | None) -> float | None:
    """A duration for a timer; None, which never ends, for one that no clock counts to. Raises as `seconds` does."""
    if duration is None:
        return None
    number = seconds(duration)
    return None if number > MAX_CLOCK_SECONDS else max(0.0, number)
