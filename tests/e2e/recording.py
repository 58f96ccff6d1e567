"""The recording of the demo."""

from __future__ import annotations

SPEECH = ((0.80, 2.66), (3.42, 5.66), (6.43, 8.26))
"""When someone speaks in it, in seconds from its beginning."""
