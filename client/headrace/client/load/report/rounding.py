"""Differences of moments without the rounding error of floats. Pure."""

from __future__ import annotations

import numpy as np

from headrace.client.load.record.samples import Floats


def rounded(durations: Floats) -> Floats:
    """Durations rounded to nanoseconds, beyond which there is only rounding error of floats."""
    return np.round(durations, 9)
