"""Durations on the wire: rounding, and the values with a meaning of their own."""

from __future__ import annotations

import math

import pytest

from headrace.wire.durations import FOR_EVER_US, seconds_of, timeout_us


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, 0), (1.5, 1_500_000), (1e-6, 1), (1e-9, 1), (0, 1), (-3, 1), (1e300, 2**63), (math.inf, 2**63)],
)
def test_a_timeout_never_becomes_none_and_never_overflows(seconds: float | None, expected: int) -> None:
    assert timeout_us(seconds) == expected


def test_a_timeout_is_a_number() -> None:
    with pytest.raises(ValueError, match="NaN"):
        timeout_us(math.nan)


def test_a_duration_in_seconds() -> None:
    assert seconds_of(1_500_000) == 1.5
    assert seconds_of(FOR_EVER_US) == math.inf
