"""Arrays in short."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.terminal.array_summary import first_values, summary


def test_only_the_first_values_are_shown() -> None:
    assert first_values(np.arange(4)) == "0 1 2 3"
    assert first_values(np.arange(5)) == "0 1 2 3 ..."
    assert first_values(np.array(["x" * 100], np.object_)) == f"'{'x' * 21}...'"


def test_a_mean_of_half_precision_does_not_overflow() -> None:
    found = summary(np.full(100_000, 60_000, np.float16))
    assert found
    assert found.mean == pytest.approx(60_000, rel=1e-3)
    assert summary(np.zeros(0, np.float32)) is None
