"""A variant is wanted of outputs that are asked for again and again, if that takes a good part of the time."""

from __future__ import annotations

from headrace.server.core.demand import HALF_LIFE, MAX_REFUSED, MAX_SETS, MIN_RUNS, MIN_SECONDS, Demand

A, B, AB = frozenset({0}), frozenset({1}), frozenset({0, 1})


def ran(demand: Demand, asked: frozenset[int], seconds: float, runs: int = MIN_RUNS) -> None:
    for _ in range(runs):
        demand.ran(asked, seconds / runs)


def test_what_is_asked_for_often_and_long_is_wanted() -> None:
    demand = Demand(3)
    ran(demand, A, 0.9 * MIN_SECONDS)
    assert demand.wanted(0) is None
    ran(demand, A, 0.2 * MIN_SECONDS, runs=1)
    assert demand.wanted(0) == (0,)


def test_a_few_long_runs_are_not_again_and_again() -> None:
    demand = Demand(3)
    ran(demand, A, 100 * MIN_SECONDS, runs=MIN_RUNS - 1)
    assert demand.wanted(0) is None


def test_all_outputs_and_none_have_no_variant() -> None:
    demand = Demand(2)
    ran(demand, AB, 100 * MIN_SECONDS)
    ran(demand, frozenset(), 100 * MIN_SECONDS)
    assert demand.wanted(0) is None


def test_what_takes_the_most_time_comes_first() -> None:
    demand = Demand(3)
    ran(demand, A, 2 * MIN_SECONDS)
    ran(demand, AB, 3 * MIN_SECONDS)
    assert demand.wanted(0) == (0, 1)
    demand.answered((0, 1), refused=False)
    assert demand.wanted(0) == (0,)


def test_what_is_asked_for_seldom_is_never_wanted() -> None:
    demand, now = Demand(3), 0.0
    for _ in range(100):
        now += HALF_LIFE
        ran(demand, A, 0.4 * MIN_SECONDS)
        assert demand.wanted(now) is None


def test_what_was_refused_is_not_wanted_again() -> None:
    demand = Demand(3)
    ran(demand, A, 2 * MIN_SECONDS)
    demand.answered((0,), refused=True)
    ran(demand, A, 100 * MIN_SECONDS)
    assert demand.wanted(0) is None
    ran(demand, B, 2 * MIN_SECONDS)
    assert demand.wanted(0) == (1,)


def test_sets_are_bounded_and_the_least_asked_for_goes_first() -> None:
    demand = Demand(1000)
    ran(demand, A, MIN_SECONDS / 2)
    for number in range(2, 10 * MAX_SETS):
        ran(demand, frozenset({number}), 0.01)
    assert repr(demand) == f"<Demand {MAX_SETS} sets of outputs, 0 refused>"
    ran(demand, A, MIN_SECONDS / 2)
    assert demand.wanted(0) == (0,)


def test_a_model_with_many_refused_sets_gets_no_more_variants() -> None:
    demand = Demand(1000)
    for number in range(MAX_REFUSED):
        ran(demand, frozenset({number}), 2 * MIN_SECONDS)
        assert demand.wanted(0) == (number,)
        demand.answered((number,), refused=True)
    ran(demand, frozenset({999}), 2 * MIN_SECONDS)
    assert demand.wanted(0) is None
