"""Sizes as people write them, in options and in files."""

from __future__ import annotations

import re

MAX_SIZE = (1 << 63) - 1
"""The largest size that any message can state."""
_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d{1,30}) *([KMG]i?B|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """`67108864` or `64MiB`, in bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: give a number of bytes, or a number with a unit, such as 64MiB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]


def format_size(size: int) -> str:
    """`64MiB`, as `parse_size` reads it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)
