"""Durations are any number: of Python or NumPy, huge, infinite or past."""

import math
from typing import Any

import numpy as np
import pytest

from headrace.client.protocol.timeouts import MAX_CLOCK_SECONDS, clock_seconds, seconds


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(2.0), 2.0),
        (True, 1.0),
        (9e9, 9e9),
        (math.inf, math.inf),
        (-1, -1.0),
    ],
)
def test_any_number_is_a_duration(value: Any, number: float) -> None:
    assert seconds(value) == number
    assert type(seconds(value)) is float


def test_nan_is_not_a_duration() -> None:
    with pytest.raises(ValueError, match=r"patience is not a number of seconds \(NaN\)"):
        seconds(np.float32("nan"), "patience")


@pytest.mark.parametrize("value", ["5", b"5", [5], {}])
def test_what_is_not_a_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout is .*; it must be a number of seconds"):
        seconds(value)


def test_a_timer_never_counts_further_than_clocks_do() -> None:
    assert [clock_seconds(value) for value in (None, math.inf, 9e9)] == [None, None, None]
    assert [clock_seconds(value) for value in (-1, 0.0, 2.5, MAX_CLOCK_SECONDS)] == [0.0, 0.0, 2.5, MAX_CLOCK_SECONDS]
