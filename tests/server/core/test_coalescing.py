"""Tickets that arrive one in a message, but many at a time, wait for each other; trials find out whether it pays."""

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
from tests.server.core.scenario import Client, Scenario, batches, infer_many

BATCH = 4 * WORTHWHILE
SOON = MAX_WAIT_SECONDS / 1000


def coalescing(*, direct: bool = True, coalesce: bool = True, delay: float = 0.0) -> Scenario:
    return Scenario(many(batch=BATCH, direct=direct), limits=Limits(coalesce=coalesce, batch_delay=delay))


def single(world: Scenario, tag: int, *, priority: int = 0, timeout: float = 0.0) -> Client:
    """A unary call with this ticket."""
    client = world.client(unary=True)
    infer_many(client, tag, priority=priority, timeout=timeout)
    return client


def serve(world: Scenario, tag: int) -> None:
    """A call that arrives alone and is answered."""
    client = single(world, tag)
    started = world.starts() or world.idle()
    assert started == [tag]
    world.end(tag)
    assert client.receives() == [f"done {tag}"]


def until_trial(world: Scenario) -> None:
    """Serve calls until the next one begins a trial."""
    for tag in range(1, MIN_PAUSE + 1):
        serve(world, tag)


def arrive(world: Scenario, tags: range) -> list[int]:
    """Calls with these tags arrive one after the other. Returns what starts in between."""
    started: list[int] = []
    for tag in tags:
        single(world, tag)
        started += world.starts() or world.after(SOON)
    return started


class TestWaiting:
    def test_a_single_request_runs_at_once(self) -> None:
        world = coalescing()
        single(world, 1)
        assert world.starts() == [1]
        assert world.settled().wake_at == math.inf

    def test_a_trial_waits_until_the_loop_is_idle(self) -> None:
        world = coalescing()
        until_trial(world)
        assert not world.settled().waits_for_idle
        assert arrive(world, range(11, 15)) == []
        assert world.settled().waits_for_idle
        world.core.idle()
        decision = world.decide()
        assert world.batches == [[11, 12, 13, 14]]
        assert not decision.waits_for_idle

    def test_a_trial_waits_no_longer_than_the_maximum(self) -> None:
        world = coalescing()
        until_trial(world)
        begin = world.now
        assert arrive(world, range(11, 15)) == []
        assert world.settled().wake_at == begin + MAX_WAIT_SECONDS
        assert world.after(MAX_WAIT_SECONDS) == [11, 12, 13, 14]

    def test_a_ticket_that_joins_waiting_ones_changes_no_decision(self) -> None:
        world = coalescing()
        until_trial(world)
        arrive(world, range(11, 13))
        before = world.settled()
        single(world, 13)
        assert world.settled() == before
        assert world.idle() == [11, 12, 13]

    def test_an_idle_loop_does_not_end_a_configured_delay(self) -> None:
        world = coalescing(delay=0.5)
        single(world, 1)
        assert not world.settled().waits_for_idle
        assert world.idle() == []

    def test_a_full_batch_does_not_wait_for_an_idle_loop(self) -> None:
        world = coalescing()
        until_trial(world)
        assert arrive(world, range(11, 11 + BATCH)) == list(range(11, 11 + BATCH))

    def test_all_tickets_wait_for_an_idle_loop_after_a_large_run(self) -> None:
        world = coalescing()
        until_trial(world)
        for first in (11, 31, 51):
            many = range(first, first + WORTHWHILE)
            assert arrive(world, many) == []
            assert world.idle() == [*many]
            world.end(first)

    def test_a_few_small_runs_in_a_row_do_not_end_the_waiting(self) -> None:
        world = coalescing()
        until_trial(world)
        assert arrive(world, range(11, 11 + WORTHWHILE)) == []
        assert len(world.idle()) == WORTHWHILE
        world.end(11)
        for tag in range(31, 31 + SMALL_RUNS_ALLOWED + 1):
            single(world, tag)
            assert world.starts() == []
            assert world.idle() == [tag]
            world.end(tag)
        single(world, 51)
        assert world.starts() == [51]

    def test_a_small_run_ends_the_waiting_of_a_trial(self) -> None:
        world = coalescing()
        until_trial(world)
        few = range(11, 11 + WORTHWHILE - 1)
        assert arrive(world, few) == []
        assert world.idle() == [*few]
        world.end(11)
        single(world, 31)
        assert world.starts() == [31]

    def test_tickets_of_frames_do_not_wait(self) -> None:
        world = coalescing()
        until_trial(world)
        infer_many(world.client(), 11)
        assert world.starts() == [11]

    def test_tickets_of_frames_take_waiting_tickets_along(self) -> None:
        world = coalescing()
        until_trial(world)
        single(world, 11)
        assert world.starts() == []
        infer_many(world.client(), 12)
        assert world.starts() == [11, 12]

    def test_urgent_tickets_do_not_wait(self) -> None:
        for urgent in ({"priority": 1}, {"timeout": URGENT_SECONDS / 2}):
            world = coalescing()
            until_trial(world)
            single(world, 11, **urgent)
            assert world.starts() == [11]

    def test_tickets_with_distant_deadlines_wait(self) -> None:
        world = coalescing()
        until_trial(world)
        single(world, 11, timeout=URGENT_SECONDS * 2)
        assert world.starts() == []
        assert world.idle() == [11]

    @pytest.mark.parametrize("rows", [0, BATCH + 1])
    def test_tickets_that_cannot_share_a_run_do_not_wait(self, rows: int) -> None:
        world = coalescing()
        until_trial(world)
        infer_many(world.client(unary=True), 11, rows=rows)
        assert world.starts() == [11]
        assert not world.settled().waits_for_idle

    def test_tickets_of_a_failed_batch_do_not_wait_for_an_idle_loop(self) -> None:
        world = coalescing()
        until_trial(world)
        tags = range(11, 11 + BATCH)
        assert arrive(world, tags) == [*tags]
        world.end(11, Internal("the batch failed"))
        assert batches(world) == [[tag] for tag in tags]
        assert not world.settled().waits_for_idle

    def test_a_ticket_that_is_queued_when_a_batch_fails_waits_no_longer(self) -> None:
        world = coalescing()
        until_trial(world)
        infer_many(world.client(), 11, 12)
        assert world.starts() == [11, 12]
        single(world, 21)
        assert world.starts() == []
        world.end(11, Internal("the batch failed"))
        assert batches(world) == [[21], [11], [12]]
        assert world.settled().wake_at == math.inf

    def test_only_tickets_of_direct_models_wait_for_each_other(self) -> None:
        world = coalescing(direct=False)
        for tag in range(1, 2 * MIN_PAUSE):
            single(world, tag)
            assert world.starts() == [tag]
            world.end(tag)

    def test_a_configured_delay_replaces_waiting_for_an_idle_loop(self) -> None:
        world = coalescing(delay=0.5)
        single(world, 1)
        assert world.settled().wake_at == world.now + 0.5
        assert world.after(0.5) == [1]

    def test_without_coalescing_no_ticket_waits(self) -> None:
        world = coalescing(coalesce=False)
        for tag in range(1, 2 * MIN_PAUSE):
            single(world, tag)
            assert world.starts() == [tag]
            world.end(tag)

    def test_a_cancelled_ticket_leaves_the_others_waiting(self) -> None:
        world = coalescing()
        until_trial(world)
        gone, stays = single(world, 11), single(world, 12)
        assert world.starts() == []
        gone.vanish()
        assert world.starts() == []
        assert world.idle() == [12]
        world.end(12)
        assert stays.receives() == ["done 12"]

    def test_an_idle_loop_is_not_awaited_once_all_waiting_tickets_are_gone(self) -> None:
        world = coalescing()
        until_trial(world)
        gone = single(world, 11)
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
    def test_waiting_for_tickets_of_one_stream_pays_later(self, streams: tuple[int, ...], pays: int) -> None:
        for count in (pays - 1, pays):
            world = coalescing()
            until_trial(world)
            clients = [world.client(unary=True, window=BATCH) for _ in range(2)]
            for tag, which in zip(range(11, 11 + count), itertools.cycle(streams), strict=False):
                infer_many(clients[which], tag)
            assert world.starts() == []
            assert len(world.idle()) == count
            world.end(11)
            infer_many(world.client(unary=True), 99)
            assert world.starts() == ([] if count == pays else [99])


class TestArrivals:
    def test_trials_that_do_not_pay_become_rarer(self) -> None:
        arrivals = Arrivals()
        trials, runs = [], 0
        while runs < 6 * MAX_PAUSE:
            runs += 1
            arrivals.add(0, runs, float(runs), can_wait=True)
            if arrivals.due > runs:
                trials.append(runs)
            arrivals.started(1)
        pauses = [after - before - 1 for before, after in itertools.pairwise(trials)]
        assert trials[0] == MIN_PAUSE + 1
        assert pauses[:6] == [4, 8, 16, 32, 64, 64]
