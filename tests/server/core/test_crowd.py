"""Tickets that come one in a message, but thick and fast, wait for each other; how many come is tried now and then."""

from __future__ import annotations

import itertools
import math

import pytest

from headrace.server.core.batching import (
    MAX_PAUSE,
    MAX_WAIT_SECONDS,
    MIN_PAUSE,
    SMALL_RUNS_ALLOWED,
    URGENT_SECONDS,
    WORTHWHILE,
    WORTHWHILE_OF_ONE_STREAM,
    Arrivals,
)
from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many
from tests.server.core.scenario import Client, Scenario, ask, batches

BATCH = 4 * WORTHWHILE
SOON = MAX_WAIT_SECONDS / 1000


def crowded(*, direct: bool = True, gather: bool = True, delay: float = 0.0) -> Scenario:
    return Scenario(many(batch=BATCH, direct=direct), limits=Limits(coalesce=gather, batch_delay=delay))


def alone(world: Scenario, tag: int, *, priority: int = 0, timeout: float = 0.0) -> Client:
    """A unary call with this ticket."""
    client = world.client(unary=True)
    ask(client, tag, priority=priority, timeout=timeout)
    return client


def serve(world: Scenario, tag: int) -> None:
    """A call that comes when nobody else does, and is answered."""
    client = alone(world, tag)
    started = world.starts() or world.idle()
    assert started == [tag]
    world.end(tag)
    assert client.hears() == [f"done {tag}"]


def until_trial(world: Scenario) -> None:
    """As many as come before the first trial."""
    for tag in range(1, MIN_PAUSE + 1):
        serve(world, tag)


def gather(world: Scenario, tags: range) -> list[int]:
    """These come one after the other, and those that start in between."""
    started: list[int] = []
    for tag in tags:
        alone(world, tag)
        started += world.starts() or world.passes(SOON)
    return started


class TestCore:
    def test_who_comes_alone_runs_at_once(self) -> None:
        world = crowded()
        alone(world, 1)
        assert world.starts() == [1]
        assert world.settled().wake_at == math.inf

    def test_a_trial_waits_until_it_is_quiet(self) -> None:
        world = crowded()
        until_trial(world)
        assert not world.settled().waits_for_idle
        assert gather(world, range(11, 15)) == []
        assert world.settled().waits_for_idle
        world.core.idle()
        decision = world.decide()
        assert world.batches == [[11, 12, 13, 14]]
        assert not decision.waits_for_idle

    def test_but_not_for_ever(self) -> None:
        world = crowded()
        until_trial(world)
        begin = world.now
        assert gather(world, range(11, 15)) == []
        assert world.settled().wake_at == begin + MAX_WAIT_SECONDS
        assert world.passes(MAX_WAIT_SECONDS) == [11, 12, 13, 14]

    def test_who_comes_to_those_who_wait_changes_nothing_that_somebody_must_see_to(self) -> None:
        world = crowded()
        until_trial(world)
        gather(world, range(11, 13))
        before = world.settled()
        alone(world, 13)
        assert world.settled() == before
        assert world.idle() == [11, 12, 13]

    def test_quiet_is_nothing_to_who_was_asked_to_wait(self) -> None:
        world = crowded(delay=0.5)
        alone(world, 1)
        assert not world.settled().waits_for_idle
        assert world.idle() == []

    def test_nor_for_more_than_a_batch_holds(self) -> None:
        world = crowded()
        until_trial(world)
        assert gather(world, range(11, 11 + BATCH)) == list(range(11, 11 + BATCH))

    def test_where_many_came_all_wait_until_it_is_quiet(self) -> None:
        world = crowded()
        until_trial(world)
        for first in (11, 31, 51):
            many = range(first, first + WORTHWHILE)
            assert gather(world, many) == []
            assert world.idle() == [*many]
            world.end(first)

    def test_a_few_times_few_may_come_in_between(self) -> None:
        world = crowded()
        until_trial(world)
        assert gather(world, range(11, 11 + WORTHWHILE)) == []
        assert len(world.idle()) == WORTHWHILE
        world.end(11)
        for tag in range(31, 31 + SMALL_RUNS_ALLOWED + 1):
            alone(world, tag)
            assert world.starts() == []
            assert world.idle() == [tag]
            world.end(tag)
        alone(world, 51)
        assert world.starts() == [51]

    def test_few_are_not_waited_for(self) -> None:
        world = crowded()
        until_trial(world)
        few = range(11, 11 + WORTHWHILE - 1)
        assert gather(world, few) == []
        assert world.idle() == [*few]
        world.end(11)
        alone(world, 31)
        assert world.starts() == [31]

    def test_tickets_of_frames_wait_for_nobody(self) -> None:
        world = crowded()
        until_trial(world)
        ask(world.client(), 11)
        assert world.starts() == [11]

    def test_and_take_those_along_who_do(self) -> None:
        world = crowded()
        until_trial(world)
        alone(world, 11)
        assert world.starts() == []
        ask(world.client(), 12)
        assert world.starts() == [11, 12]

    def test_urgent_ones_wait_for_nobody(self) -> None:
        for urgent in ({"priority": 1}, {"timeout": URGENT_SECONDS / 2}):
            world = crowded()
            until_trial(world)
            alone(world, 11, **urgent)
            assert world.starts() == [11]

    def test_those_who_have_time_do(self) -> None:
        world = crowded()
        until_trial(world)
        alone(world, 11, timeout=URGENT_SECONDS * 2)
        assert world.starts() == []
        assert world.idle() == [11]

    @pytest.mark.parametrize("rows", [0, BATCH + 1])
    def test_nor_do_those_who_share_a_run_with_nobody(self, rows: int) -> None:
        world = crowded()
        until_trial(world)
        ask(world.client(unary=True), 11, rows=rows)
        assert world.starts() == [11]
        assert not world.settled().waits_for_idle

    def test_nor_do_those_of_a_batch_that_failed(self) -> None:
        world = crowded()
        until_trial(world)
        tags = range(11, 11 + BATCH)
        assert gather(world, tags) == [*tags]
        world.end(11, Internal("the batch failed"))
        assert batches(world) == [[tag] for tag in tags]
        assert not world.settled().waits_for_idle

    def test_and_who_is_queued_when_it_fails_waits_no_longer(self) -> None:
        world = crowded()
        until_trial(world)
        ask(world.client(), 11, 12)
        assert world.starts() == [11, 12]
        alone(world, 21)
        assert world.starts() == []
        world.end(11, Internal("the batch failed"))
        assert batches(world) == [[21], [11], [12]]
        assert world.settled().wake_at == math.inf

    def test_only_direct_models_have_crowds(self) -> None:
        world = crowded(direct=False)
        for tag in range(1, 2 * MIN_PAUSE):
            alone(world, tag)
            assert world.starts() == [tag]
            world.end(tag)

    def test_a_delay_that_was_asked_for_is_what_everybody_waits(self) -> None:
        world = crowded(delay=0.5)
        alone(world, 1)
        assert world.settled().wake_at == world.now + 0.5
        assert world.passes(0.5) == [1]

    def test_where_nobody_shall_nobody_waits(self) -> None:
        world = crowded(gather=False)
        for tag in range(1, 2 * MIN_PAUSE):
            alone(world, tag)
            assert world.starts() == [tag]
            world.end(tag)

    def test_one_that_goes_away_leaves_the_others_waiting(self) -> None:
        world = crowded()
        until_trial(world)
        gone, stays = alone(world, 11), alone(world, 12)
        assert world.starts() == []
        gone.vanish()
        assert world.starts() == []
        assert world.idle() == [12]
        world.end(12)
        assert stays.hears() == ["done 12"]

    def test_when_all_have_gone_away_it_is_quiet_only_once(self) -> None:
        world = crowded()
        until_trial(world)
        gone = alone(world, 11)
        assert world.starts() == []
        gone.vanish()
        assert world.idle() == []
        assert not world.settled().waits_for_idle

    @pytest.mark.parametrize(
        ("streams", "pays"),
        [
            ((0, 1), WORTHWHILE),
            ((0, 0, 0, 1), WORTHWHILE),
            ((0, 1, 1, 1), WORTHWHILE),
            ((0,), WORTHWHILE_OF_ONE_STREAM),
        ],
    )
    def test_it_takes_more_of_one_stream_to_pay(self, streams: tuple[int, ...], pays: int) -> None:
        for count in (pays - 1, pays):
            world = crowded()
            until_trial(world)
            clients = [world.client(unary=True, window=BATCH) for _ in range(2)]
            for tag, which in zip(range(11, 11 + count), itertools.cycle(streams), strict=False):
                ask(clients[which], tag)
            assert world.starts() == []
            assert len(world.idle()) == count
            world.end(11)
            ask(world.client(unary=True), 99)
            assert world.starts() == ([] if count == pays else [99])


class TestCrowd:
    def test_trials_of_those_who_come_alone_become_seldom(self) -> None:
        crowd = Arrivals()
        trials, runs = [], 0
        while runs < 6 * MAX_PAUSE:
            runs += 1
            crowd.add(0, runs, float(runs), can_wait=True)
            if crowd.due > runs:
                trials.append(runs)
            crowd.started(1)
        pauses = [after - before - 1 for before, after in itertools.pairwise(trials)]
        assert trials[0] == MIN_PAUSE + 1
        assert pauses[:6] == [4, 8, 16, 32, 64, 64]
