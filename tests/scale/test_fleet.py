"""What the page about scaling says of large fleets, in a smaller one: streams, ages and restarts, in virtual time."""

from __future__ import annotations

import math
from random import Random

import pytest

from tests.scale.fleet import Fleet, Restart, even_after

SERVERS, STREAMS, AGE, DOWN = 20, 2000, 300.0, 20.0


def fleet_with(age: float = AGE, choices: int = 10, opened_within: float = AGE) -> Fleet:
    fleet = Fleet(SERVERS, STREAMS, age, choices, Random(7))
    fleet.open_all(opened_within)
    return fleet


def test_streams_are_even_and_move_at_the_rate_of_their_ages() -> None:
    fleet = fleet_with()
    fleet.run(5 * AGE)
    assert even_after(fleet.seen, AGE, 0.05) == 0
    seconds = range(int(2 * AGE), int(5 * AGE))
    rate = sum(fleet.seen.moves[second] for second in seconds) / len(seconds)
    mean_age = 0.75 * AGE
    assert rate == pytest.approx(STREAMS / mean_age, rel=0.05)


def test_streams_that_were_opened_at_once_do_not_move_at_once() -> None:
    fleet = fleet_with(opened_within=1.0)
    fleet.run(1.1 * AGE)
    in_half_an_age = STREAMS / (AGE / 2)
    assert max(fleet.seen.moves.values()) < 3 * in_half_an_age
    assert sum(fleet.seen.moves.values()) >= STREAMS


@pytest.mark.parametrize("choices", [2, 10])
def test_a_server_that_was_restarted_is_even_again_within_an_age(choices: int) -> None:
    """It is chosen whenever it is drawn, so that its streams come at `choices` of `SERVERS` of the moves."""
    fleet = fleet_with(choices=choices)
    restart = Restart(3, 2 * AGE, DOWN)
    fleet.run(4 * AGE, [restart])
    took = even_after(fleet.seen, restart.begins + DOWN)
    moves = STREAMS / (0.75 * AGE)
    expected = STREAMS / SERVERS / (moves * choices / SERVERS)
    assert took <= 2 * AGE
    assert took == pytest.approx(expected, rel=0.5)


def test_without_an_age_a_server_that_was_restarted_gets_nothing() -> None:
    fleet = fleet_with(age=0)
    fleet.run(20 * AGE, [Restart(3, 2 * AGE, DOWN)], every=10)
    assert fleet.loads[3] == 0
    assert even_after(fleet.seen, 2 * AGE + DOWN) == math.inf


def test_a_rolling_restart_of_all_leaves_them_even() -> None:
    """One after another, each as soon as the one before is there again: the streams of each go to all others."""
    fleet = fleet_with()
    begins = 2 * AGE
    fleet.run(begins + 30 * SERVERS + 2 * AGE, [Restart(each, begins + 30 * each, DOWN) for each in range(SERVERS)])
    during = [loads for at, loads in fleet.seen.loads if begins <= at <= begins + 30 * SERVERS]
    worst = max(max(loads) for loads in during)
    assert worst < 1.5 * STREAMS / SERVERS
    assert even_after(fleet.seen, begins + 30 * SERVERS) <= AGE
