"""How long to wait before something that failed is tried again. Pure."""

from __future__ import annotations

FIRST_SECONDS = 0.1
MAX_SECONDS = 5.0


def backoff(failures: int, random: float, *, first: float = FIRST_SECONDS, most: float = MAX_SECONDS) -> float:
    """Seconds to wait after so many failures in a row: `first`, and then twice as long each time, up to `most`.

    `random`, from 0 to 1, takes away up to half, so that clients that failed together do not come back together.
    """
    longest = min(most, first * 2.0 ** min(failures - 1, 30))
    return longest * (1 - random / 2)
