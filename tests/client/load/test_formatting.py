"""Numbers as text for people."""

from __future__ import annotations

import pytest

from headrace.client.load.formatting import (
    change_text,
    counted,
    duration_text,
    ms_text,
    number_text,
    rate_text,
    share_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0004, "0.000"),
        (0.0201, "0.020"),
        (0.596, "0.596"),
        (0.9996, "1.00"),
        (1, "1.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (41.25, "41.2"),
        (412.4, "412"),
        (999.6, "1,000"),
        (12_345, "12,300"),
        (-3.456, "-3.46"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0312, "31.2 ms"),
        (0.004, "4 ms"),
        (0.00041, "0.41 ms"),
        (0, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.3, "1.3 s"),
        (6.104, "6.1 s"),
        (9.99, "9.99 s"),
        (10, "10 s"),
        (4000, "4,000 s"),
    ],
)
def test_durations_have_a_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("percent", "text"), [(100, "100"), (99.999, "99.9"), (99.0, "99"), (98.96, "98.9"), (2.04, "2"), (0, "0")]
)
def test_shares_are_rounded_down(percent: float, text: str) -> None:
    assert share_text(percent) == text


@pytest.mark.parametrize(
    ("percent", "text"),
    [(None, "-"), (0.0, "0 %"), (0.04, "0 %"), (-0.04, "0 %"), (-3.44, "-3.4 %"), (26.4, "+26 %"), (1234, "+1,234 %")],
)
def test_changes_have_a_sign(percent: float | None, text: str) -> None:
    assert change_text(percent) == text


def test_a_missing_duration_is_a_dash() -> None:
    assert ms_text(None) == "-"
    assert ms_text(0.00412) == "4.12"


def test_counts_and_rates_are_formatted() -> None:
    assert [counted(n, "request") for n in (0, 1, 1200)] == ["0 requests", "1 request", "1,200 requests"]
    assert [rate_text(n) for n in (180.4, 0.5, 100, 12_345)] == ["180/s", "0.5/s", "100/s", "12,300/s"]
