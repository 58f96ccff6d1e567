"""How long to wait before something that failed is tried again. Pure."""

from __future__ import annotations

FIRST_SECONDS = 0.1
MAX_SECONDS = 5.0


def backoff(failures: int, random: float) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, up to a bound.

    `random`, from 0 to 1, takes away up to half, so that clients that failed together do not come back together.
    """
    longest = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 30))
    return longest * (1 - random / 2)
