"""Rates and sweeps of the command line: what is accepted, and what the errors say."""

from __future__ import annotations

import pytest

from headrace.client.load.planning.parsing import parse_rate, parse_sweep
from headrace.client.terminal.usage_error import UsageError


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("200", (200.0, 200.0)),
        ("200/s", (200.0, 200.0)),
        (" 200 / s ", (200.0, 200.0)),
        ("0.5/s", (0.5, 0.5)),
        ("1e3", (1000.0, 1000.0)),
        ("12/m", (0.2, 0.2)),
        ("1/h", (1 / 3600, 1 / 3600)),
        ("50..500/s", (50.0, 500.0)),
        ("500..50", (500.0, 50.0)),
        ("6 .. 60 /m", (0.1, 1.0)),
        ("1.5..2.5", (1.5, 2.5)),
        ("1000000/s", (1e6, 1e6)),
    ],
)
def test_rates_are_parsed(text: str, rates: tuple[float, float]) -> None:
    assert parse_rate(text) == rates


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/s",
        "fast",
        "200/",
        "200/x",
        "200/s/s",
        "200 s",
        "..",
        "50..",
        "..500",
        "50...500",
        "1..2..3",
        "٣",
        "nan",
        "inf",
        "-inf",
        "1_000",
        "0x10",
        "50/s..500/s",
        "1" * 1000 + "x",
    ],
)
def test_an_invalid_rate_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a rate; write 200/s, 12/m, or 50\.\.500/s for a ramp$") as error:
        parse_rate(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("text", ["0", "0/s", "-1/s", "0..100", "100..0", "1000001", "1e999", "0.9/h", "1e-320"])
def test_a_rate_out_of_range_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"is out of range: it must be between 1/h and 1000000/s$"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "points"), [("1", [1]), ("1,2,4,8", [1, 2, 4, 8]), (" 16, 1 ", [16, 1])])
def test_sweeps_are_parsed(text: str, points: list[int]) -> None:
    assert parse_sweep(text) == points


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is not a sweep"),
        ("1,,2", "is not a sweep"),
        ("1,2,", "is not a sweep"),
        ("1;2", "is not a sweep"),
        ("-1", "is not a sweep"),
        ("1.5", "is not a sweep"),
        ("٣", "is not a sweep"),
        ("9" * 5000, "is not a sweep"),
        ("0,1", "between 1 and 65536"),
        ("65537", "between 1 and 65536"),
        (",".join(["1"] * 65), "at most 64 points, but this one has 65"),
    ],
)
def test_an_invalid_sweep_is_a_usage_error(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        parse_sweep(text)
