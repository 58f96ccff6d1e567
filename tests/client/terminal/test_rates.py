"""What a server did between two looks at it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.client.protocol.status import Histogram, ModelStatus, ServerStatus
from headrace.client.terminal.rates import model_rates, ordered

BOUNDS = (0.001, 0.01, 0.1)


def model(name: str = "m", done: int = 0, failed: int = 0, runs: int = 0, *counts: int) -> ModelStatus:
    durations = Histogram(BOUNDS, counts or (0, 0, 0, 0))
    return replace(ModelStatus(name, "1", 2, 0, 0, 0, done, failed, runs), durations=durations)


def status(*models: ModelStatus) -> ServerStatus:
    return ServerStatus("0.1.0", False, 0, 0, 0, 0, models)


def test_only_what_happened_in_between_counts() -> None:
    before = status(model("m", 1000, 5, 500, 1000, 0, 0, 0))
    (rates,) = model_rates(before, status(model("m", 1300, 7, 600, 1000, 100, 200, 0)), 2.0)
    assert (rates.rate, rates.failures, rates.batch) == (150, 1, 3)
    assert rates.p50 == pytest.approx(0.01 + 0.09 * 50 / 200)
    assert rates.p99 == pytest.approx(0.01 + 0.09 * 197 / 200)


def test_a_model_that_did_nothing_has_no_percentiles() -> None:
    (rates,) = model_rates(status(model("m", 10, 0, 10, 10, 0, 0, 0)), status(model("m", 10, 0, 10, 10, 0, 0, 0)), 1.0)
    assert (rates.rate, rates.batch, rates.p50, rates.p99) == (0, None, None, None)


def test_a_model_that_was_loaded_again_begins_at_zero() -> None:
    before = status(model("m", 1000, 5, 1000, 1000, 0, 0, 0))
    (rates,) = model_rates(before, status(model("m", 8, 0, 8, 0, 8, 0, 0)), 1.0)
    assert (rates.rate, rates.failures) == (8, 0)
    assert rates.p50 == pytest.approx(0.001 + 0.009 / 2)


def test_values_above_all_bounds_are_the_last_bound() -> None:
    assert Histogram(BOUNDS, (0, 0, 0, 7)).quantile(0.5) == 0.1
    assert Histogram(BOUNDS, (1, 0, 0, 7)).quantile(0.1) == pytest.approx(0.0008)
    assert Histogram().quantile(0.5) is None


def test_the_order_is_that_of_a_figure_and_then_of_names() -> None:
    models = [model("b", 10), model("c", 30), model("a", 10)]
    rates = model_rates(status(), status(*models), 1.0)
    assert [each.now.name for each in ordered(rates, "rate")] == ["c", "a", "b"]
    assert [each.now.name for each in ordered(rates, "name")] == ["a", "b", "c"]
    waiting = [replace(models[0], tickets_queued=3), *models[1:]]
    assert ordered(model_rates(status(), status(*waiting), 1.0), "queue")[0].now.name == "b"
