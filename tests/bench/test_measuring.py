"""What the bench concludes from figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.cases.case import Case, Reference, Serving
from tests.bench.measuring.bounds import Bound, Verdict
from tests.bench.measuring.client_turn import joined
from tests.bench.measuring.echo_mode import EchoMode, EchoModes, mode_of
from tests.bench.measuring.noise import LoopTime, judged
from tests.bench.measuring.ratios import ratios
from tests.bench.measuring.rounds import Measured, Round
from tests.bench.measuring.spread import spread
from tests.bench.measuring.turn import P50, RATE, Figure, Turn, TurnFailed
from tests.bench.references.benchmark_app import turn_of

FAST, SLOW = EchoMode(fast=True, took_us=70, limit_us=95), EchoMode(fast=False, took_us=125, limit_us=95)


def arguments(_: Path) -> list[str]:
    raise AssertionError("no server is needed")


def case(name: str = "case", figure: Figure = RATE, bound: Bound | None = None, compiled: Bound | None = None) -> Case:
    def turn(*_: object) -> Turn:
        raise AssertionError("no turn is needed")

    reference = Reference("echo", figure=figure)
    return Case(name, "a case", Serving(arguments), turn, figure, reference, bound or Bound(), compiled or Bound())


def rate(per_second: int, server_seconds: float | None = None) -> Turn:
    return Turn(per_second, 1.0, server_seconds=server_seconds)


def test_the_spread_of_figures() -> None:
    values = spread([3.0, 1.0, 2.0, 10.0])
    assert (values.low, values.median, values.high) == (1.0, 2.5, 10.0)
    assert (values.first_quartile, values.third_quartile) == (1.75, 4.75)
    assert spread([7.0]).first_quartile == spread([7.0]).high == 7.0


@pytest.mark.parametrize(
    ("bound", "ratio", "verdict"),
    [
        (Bound(4, 6), 3.9, Verdict.MISSED),
        (Bound(4, 6), 4.0, Verdict.REACHED),
        (Bound(4, 6), 6.0, Verdict.AIM),
        (Bound(4), 100, Verdict.REACHED),
        (Bound(1.15, 1.0, less=True), 1.2, Verdict.MISSED),
        (Bound(1.15, 1.0, less=True), 1.1, Verdict.REACHED),
        (Bound(1.15, 1.0, less=True), 0.9, Verdict.AIM),
        (Bound(), 1.0, Verdict.NO_BOUND),
    ],
)
def test_a_bound_is_missed_reached_or_the_aim_is(bound: Bound, ratio: float, verdict: Verdict) -> None:
    assert bound.verdict(ratio) is verdict


def test_a_verdict_is_close_if_half_of_the_rounds_cannot_decide_it() -> None:
    assert Bound(4).is_close(spread([3.0, 3.9, 4.1, 5.0]))
    assert not Bound(4).is_close(spread([3.0, 4.5, 4.6, 5.0]))
    assert not Bound().is_close(spread([3.0, 5.0]))


def test_a_machine_is_quiet_if_the_fixed_loop_always_takes_the_same() -> None:
    quiet = judged([LoopTime(0.0111, 0.0110)] * 9 + [LoopTime(0.013, 0.011)])
    assert quiet.name == "quiet"
    assert "was quiet" in str(quiet)


@pytest.mark.parametrize(
    "loops",
    [
        [LoopTime(0.022, 0.011)] * 10,  # others take half of the processor
        [LoopTime(0.011, 0.011)] * 5 + [LoopTime(0.014, 0.014)] * 6,  # the processor itself is slower most of the time
        [LoopTime(0.011, 0.011)] * 8 + [LoopTime(0.04, 0.011)] * 2,  # others take it now and then
        [LoopTime(0.011, 0.011)] * 2,  # too few to know
    ],
)
def test_a_machine_is_noisy_if_the_loop_takes_longer(loops: list[LoopTime]) -> None:
    assert judged(loops).name == "noisy"
    assert "NOISY" in str(judged(loops))


def test_the_mode_of_the_echo_scales_with_the_speed_of_the_processor() -> None:
    trip = Turn(1000, 1.0, p50=160e-6)
    assert not mode_of(trip, 1, speed=1.0).fast
    assert mode_of(trip, 1, speed=1.2).fast
    assert mode_of(rate(14_000), 32, speed=1.0).fast
    assert not mode_of(rate(8_000), 32, speed=1.0).fast
    assert str(mode_of(rate(8_000), 32, speed=1.0)) == "slow (125 us; fast up to 95)"


def test_the_mode_of_a_run() -> None:
    assert EchoModes([FAST] * 9 + [SLOW]).name == "fast"
    assert EchoModes([SLOW] * 9 + [FAST]).name == "slow"
    assert EchoModes([SLOW, FAST]).name == "both"
    assert EchoModes([]).name == "not measured"
    assert "1 of 2 turns" in str(EchoModes([SLOW, FAST]))


def test_ratios_are_taken_within_rounds_and_to_the_fast_echo() -> None:
    rounds = {
        0: Round(rate(1000), rate(500), FAST),
        1: Round(rate(1200), rate(400), FAST),
        2: Round(rate(1000), rate(400), FAST),
        3: Round(rate(1000), rate(100), SLOW),  # flatters the server
    }
    found = ratios([Measured(case(bound=Bound(2)), "here", rounds)], {})
    assert [(each.spread.low, each.spread.high, each.rounds, each.notes) for each in found] == [(2, 3, 3, [])]
    assert found[0].verdict is Verdict.REACHED


def test_an_echo_that_was_seldom_fast_says_so_and_all_rounds_count() -> None:
    rounds = {0: Round(rate(1000), rate(100), SLOW), 1: Round(rate(100), rate(100), FAST)}
    found = ratios([Measured(case(), "here", rounds)], {})
    assert [(each.spread.low, each.spread.high, each.notes) for each in found] == [(1, 10, ["echo slow"])]


def test_the_processor_time_is_compared_with_the_earlier_one() -> None:
    older = Case("c", "c", case().serving, case().turn, reference=case().reference, earlier_server_time=3.0)
    found = ratios([Measured(older, "here", {0: Round(rate(1000, 0.3), rate(1000, 0.2), None)})], {})
    assert [(each.name, round(each.spread.median, 3)) for each in found] == [("c", 1.0), ("c:server-time", 0.5)]


def test_builds_are_compared_round_by_round() -> None:
    both = case(compiled=Bound(1.3))
    quick = Measured(both, "here", {0: Round(rate(300), rate(1), None), 1: Round(rate(500), rate(1), None)})
    slow = Measured(both, "other", {1: Round(rate(250), rate(1), None), 2: Round(rate(1), rate(1), None)})
    builds = {"compiled": "here", "pure": "other"}
    compared = [each for each in ratios([quick, slow], builds) if each.name == "case:compiled"]
    assert [(each.way, each.spread.median, each.rounds) for each in compared] == [("here", 2.0, 1)]
    assert not [each for each in ratios([quick], {"compiled": "here"}) if each.name == "case:compiled"]


def test_ratios_of_the_same_name_follow_each_other() -> None:
    older = Case("c", "c", case().serving, case().turn, reference=case().reference, earlier_server_time=3.0)
    rounds = {0: Round(rate(1000, 0.3), rate(1000, 0.2), None)}
    found = ratios([Measured(older, "here", rounds), Measured(older, "aio", rounds)], {})
    assert [each.name for each in found] == ["c", "c", "c:server-time", "c:server-time"]


def test_ways_are_compared_with_the_one_called_before() -> None:
    older = Case(
        *("c", "c", case().serving, case().turn),
        reference=case().reference,
        earlier_server_time=3.0,
        server_time=Bound(0.5, less=True),
    )
    now = Measured(older, "here", {0: Round(rate(300, 0.03), rate(1, 1), None)})
    before = Measured(older, "before", {0: Round(rate(200, 0.05), rate(1, 1), None), 1: Round(rate(1), rate(1), None)})
    found = {each.name: each for each in ratios([now, before], {}) if each.way == "here"}
    assert list(found) == ["c", "c:before", "c:server-time"]
    assert found["c:before"].spread.median == 1.5
    assert (round(found["c:server-time"].spread.median, 3), found["c:server-time"].verdict) == (0.4, Verdict.REACHED)


def test_processes_of_a_client_add_up() -> None:
    report: dict[str, Any] = {
        "requests": 100,
        "seconds": 1.0,
        "processor_seconds": 0.5,
        "p50": 0.1,
        "p99": None,
        "beside": {},
    }
    turn = joined([report, report | {"requests": 300, "seconds": 1.5, "p50": 0.3}], server_seconds=0.8)
    assert (turn.requests, turn.rate, turn.p50, turn.p99) == (400, 300.0, 0.3, None)
    assert (turn.server_us, turn.client_us) == (2000.0, 2500.0)
    with pytest.raises(TurnFailed, match="no request was answered"):
        joined([report | {"requests": 0}], None)


def test_a_figure_that_the_client_has_not_measured_fails_the_turn() -> None:
    with pytest.raises(TurnFailed, match="p50"):
        P50.of(rate(1))


def test_a_figure_can_have_a_bound_without_a_reference() -> None:
    alone = Case("c", "c", case().serving, case().turn, bound=Bound(1000, less=True))
    found = ratios([Measured(alone, "here", {0: Round(rate(900), None, None)})], {})
    assert [(each.spread.median, each.verdict) for each in found] == [(900, Verdict.REACHED)]


def test_what_benchmark_app_prints() -> None:
    lines = ["[ INFO ] Count:            240 iterations", "[ INFO ] Duration:         2000.00 ms"]
    assert turn_of(lines).rate == 120.0
    with pytest.raises(TurnFailed, match="no such model"):
        turn_of(["[ ERROR ] no such model"])


def test_a_ratio_of_which_rounds_have_failed_says_so() -> None:
    half = Measured(case(bound=Bound(2)), "here", {0: Round(rate(9), rate(3), None)}, asked=4, failure="it has ended")
    assert half.missing == "3 of 4 rounds failed: it has ended"
    assert [each.notes for each in ratios([half], {})] == [["rounds failed"]]
    assert Measured(case(), "here", asked=4, lacks="--prune").missing == "this server has no --prune"
