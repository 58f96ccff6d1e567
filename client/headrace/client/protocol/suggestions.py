"""What a message says beside a name that does not exist. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from headrace.wire.errors import quote


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """` (did you mean 'image'?)` if a known name resembles this one, and otherwise nothing."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(name[:80].lower(), by_lower, 1)
    return f" (did you mean {quote(by_lower[close[0]])}?)" if close else ""
