"""Numbers as text for people: three significant digits, thousands separators, and a unit unless the context has it."""

from __future__ import annotations

import math

DIGITS = 3
MAX_DECIMALS = 3
"""The clocks resolve a thousandth of a millisecond."""


def number_text(value: float, digits: int = DIGITS) -> str:
    """`0.412`, `4.12`, `41.2`, `412`, `4,120`."""
    rounded = float(f"{value:.{digits - 1}e}")
    if not rounded:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{min(max(decimals, 0), MAX_DECIMALS)}f}"


def ms_text(seconds: float | None) -> str:
    """Milliseconds without the unit; `-` for None."""
    return "-" if seconds is None else number_text(seconds * 1e3)


def duration_text(seconds: float) -> str:
    """`31.2 ms`, `4 ms`, and `1.3 s` from one second on: for use in a sentence."""
    number, unit = split_duration(seconds)
    return f"{_trimmed(number)} {unit}"


def split_duration(seconds: float) -> tuple[str, str]:
    """A number of three digits and its unit: `4.00` and `ms`, `1.30` and `s`."""
    if float(f"{seconds:.{DIGITS - 1}e}") >= 1:
        return number_text(seconds), "s"
    return number_text(seconds * 1e3), "ms"


def time_of_day(seconds: float) -> str:
    """`14:03:20`, in UTC, of seconds since 1970."""
    whole = round(seconds) % 86400
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def bytes_text(count: float) -> str:
    """`412 MiB`, `1.3 GiB`."""
    if count >= 1 << 30:
        return f"{_trimmed(number_text(count / (1 << 30)))} GiB"
    return f"{_trimmed(number_text(count / (1 << 20)))} MiB"


def rate_text(per_second: float) -> str:
    return f"{_trimmed(number_text(per_second))}/s"


def share_text(percent: float) -> str:
    """A percentage without the sign, rounded down, so that only the whole is 100."""
    return "100" if percent >= 100 else _trimmed(f"{math.floor(percent * 10) / 10:.1f}")


def change_text(percent: float | None) -> str:
    """`+12 %`, `-3.4 %`, `0 %`; `-` for None."""
    if percent is None:
        return "-"
    text = _trimmed(f"{percent:+.1f}" if abs(percent) < 10 else f"{percent:+,.0f}")
    return "0 %" if text in ("+0", "-0") else f"{text} %"


def counted(count: int, noun: str) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
