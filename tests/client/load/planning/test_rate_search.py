"""Searches for the highest rate, against servers that are a function of the rate, with and without noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.rate_search import (
    MAX_RATE,
    MAX_TRIALS,
    MIN_RATE,
    PRECISION,
    Bounds,
    Trial,
    bounds_of,
    next_rate,
    verdict,
)

ROUNDING = 0.006
"""Rates have three digits."""
USUAL_TRIALS = 30

Server = Callable[[float], float]
"""The figure over its limit, by the rate: the rate holds up to 1."""


def search(first: float, server: Server) -> list[Trial]:
    trials: list[Trial] = []
    while (rate := next_rate(first, trials)) is not None:
        pressure = server(rate)
        trials.append(Trial(rate, pressure < 1, pressure, kept_up=math.isfinite(pressure)))
        assert len(trials) <= MAX_TRIALS
    return trials


def queue(capacity: float, idle: float) -> Server:
    """A queue whose latency is `idle` times the limit without load and grows without bound towards its capacity."""
    return lambda rate: idle / (1 - rate / capacity) if rate < capacity else math.inf


def highest_rate(capacity: float, idle: float) -> float:
    """Where the pressure of that queue is 1."""
    return capacity * (1 - idle)


rates = st.floats(1.0, 1e5)
idles = st.floats(0.01, 0.85)


@given(rates, rates, idles)
def test_without_noise_the_found_rate_is_within_the_precision(first: float, capacity: float, idle: float) -> None:
    trials, right = search(first, queue(capacity, idle)), highest_rate(capacity, idle)
    bounds = bounds_of(trials)
    assert bounds.holds is not None
    assert bounds.fails is not None
    assert bounds.holds <= right <= bounds.fails
    assert bounds.fails <= bounds.holds * (1 + PRECISION + ROUNDING)
    assert len(trials) <= 2 * abs(math.log2(right / first)) + USUAL_TRIALS
    assert sum(trial.rate == bounds.holds for trial in trials) >= 2


@given(rates, idles, st.integers(0, 2**32 - 1), st.floats(0.01, 0.15))
def test_with_noise_the_found_rate_is_as_right_as_the_noise_allows(
    capacity: float, idle: float, seed: int, sigma: float
) -> None:
    """A figure that is measured up to 4 sigma too low or too high moves its crossing of the limit by just that."""
    server, noise = queue(capacity, idle), np.random.default_rng(seed)
    trials = search(capacity / 5, lambda rate: server(rate) * math.exp(sigma * min(4, max(-4, noise.normal()))))
    bounds = bounds_of(trials)
    if bounds.holds is None:
        assert server(0.0) * math.exp(4 * sigma) > 1, (
            "a server that is idle may seem to miss, if all trials are unlucky"
        )
    else:
        assert server(bounds.holds) < math.exp(4 * sigma)
    assert bounds.fails is None or server(bounds.fails) > math.exp(-4 * sigma)
    assert len(trials) <= MAX_TRIALS


def test_with_noise_most_searches_end_within_a_tenth() -> None:
    found = []
    for seed in range(200):
        noise = np.random.default_rng(seed)
        server = queue(500, 0.25)
        bounds = bounds_of(search(100, lambda rate: server(rate) * math.exp(noise.normal(0, 0.1))))  # noqa: B023 - called at once
        assert bounds.holds is not None
        found.append(bounds.holds / highest_rate(500, 0.25))
    assert np.percentile(found, 5) > 0.9
    assert np.percentile(found, 95) < 1.1


@given(rates, idles, st.integers(0, MAX_TRIALS), st.booleans())
def test_one_false_trial_changes_nothing_but_the_number_of_trials(
    capacity: float, idle: float, when: int, better: bool
) -> None:
    """A stall during a trial, or one that was lucky; near the limit, as far from it luck does not reach."""
    server, numbers = queue(capacity, idle), itertools.count()

    def disturbed(rate: float) -> float:
        pressure = server(rate)
        if next(numbers) != when:
            return pressure
        return 0.9 if better and pressure > 1 else 50.0

    bounds = bounds_of(search(capacity / 7, disturbed))
    assert bounds.holds is not None
    assert bounds.fails is not None
    assert bounds.holds <= highest_rate(capacity, idle) <= bounds.fails
    assert bounds.fails <= bounds.holds * (1 + PRECISION + ROUNDING)


@given(st.lists(st.floats(0, 3), min_size=MAX_TRIALS + 1, max_size=MAX_TRIALS + 1), rates)
def test_a_server_without_any_rule_ends_the_search_too(pressures: list[float], first: float) -> None:
    answers: Iterator[float] = iter(pressures)
    trials = search(first, lambda _: next(answers))
    bounds = bounds_of(trials)
    assert bounds.holds is None or bounds.fails is None or bounds.holds < bounds.fails
    assert all(MIN_RATE <= trial.rate <= MAX_RATE for trial in trials)


def test_what_always_holds_is_tried_up_to_the_highest_rate() -> None:
    trials = search(400_000, lambda _: 0.1)
    assert [trial.rate for trial in trials] == [400_000, 800_000, MAX_RATE, MAX_RATE]
    assert bounds_of(trials) == Bounds(MAX_RATE, None)


def test_what_never_holds_is_tried_down_to_the_lowest_rate() -> None:
    trials = search(0.3, lambda _: math.inf)
    assert [trial.rate for trial in trials] == [0.3, 0.3, 0.15, 0.15, MIN_RATE, MIN_RATE]
    assert bounds_of(trials) == Bounds(None, MIN_RATE)


def test_a_server_that_keeps_up_but_is_too_slow_at_any_rate_ends_the_search() -> None:
    trials = search(100, queue(1000, 3))
    assert [trial.rate for trial in trials] == [100, 100, 50, 50, 12.5, 12.5]
    assert bounds_of(trials) == Bounds(None, 12.5)


def test_a_first_rate_far_too_high_is_left_in_growing_steps() -> None:
    trials = search(64_000, queue(100, 0.1))
    assert [trial.rate for trial in trials][:10:2] == [64_000, 32_000, 8_000, 1_000, 62.5]


@pytest.mark.parametrize(
    ("pressures", "holds"),
    [
        ([0.5], True),
        ([0.9], None),
        ([0.9, 0.9], True),
        ([1.5], None),
        ([1.5, 1.5], False),
        ([1.5, 0.2], None),
        ([0.2, 1.5], None),
        ([0.2, 1.5, 0.9], True),
        ([0.2, 1.5, 1.1], False),
    ],
)
def test_two_trials_of_three_decide_unless_the_first_is_clear(pressures: list[float], holds: bool | None) -> None:
    trials = [Trial(10, pressure < 1, pressure) for pressure in pressures]
    assert verdict([Trial(5, False, 9), *trials], 10) is holds
