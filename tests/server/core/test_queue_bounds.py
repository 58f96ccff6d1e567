"""Bounds of the queue of a model: who is refused, who makes room, and who has waited too long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.limits import Limits
from headrace.server.core.queue_bounds import Pace
from headrace.server.core.statistics import Statistics
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Client, Scenario, infer_many
from tests.server.core.sequence_world import SequenceWorld, recurrent

RUN = 0.1
"""Seconds that a run takes in these tests."""


def world_of(most: int = 0, seconds: float = 0.0, *, limits: Limits | None = None) -> Scenario:
    return Scenario(limits=replace(limits or Limits(), max_queue=most, max_queue_seconds=seconds))


def statistics(world: Scenario, name: str = "step") -> Statistics:
    return world.core.models.find(name).statistics


def paced(world: Scenario, client: Client) -> None:
    """Let the core find out that a run takes RUN seconds, while nothing else is queued."""
    for tag in (901, 902, 903):
        client.infer(tag)
    for tag in (901, 902, 903):
        assert world.starts() == [tag]
        world.now += RUN
        world.end(tag)
    assert client.receives() == ["done 901", "done 902", "done 903"]


class TestNumber:
    def test_one_more_than_may_wait_is_refused(self) -> None:
        world = world_of(most=2)
        client = world.client()
        for tag in (1, 2, 3, 4):
            client.infer(tag)
        assert client.receives() == ["failed 4 RESOURCE_EXHAUSTED"], "one starts at once and two wait"
        assert client.errors[4].retryable
        assert client.errors[4].message == "3 tickets wait for model 'step', which is the limit; try again later"
        assert 4 not in client.live
        assert world.starts() == [1]
        client.infer(4)
        assert client.receives() == ["failed 4 RESOURCE_EXHAUSTED"]
        world.end(1)
        assert world.starts() == [2]
        client.infer(4)
        assert world.runs() == []
        world.end(2)
        assert world.runs() == [3, 4]
        assert (statistics(world).refused, statistics(world).overdue, statistics(world).fail[0]) == (2, 0, 0)

    def test_a_refusal_says_when_to_come_back(self) -> None:
        world = world_of(most=4)
        client = world.client()
        paced(world, client)
        for tag in range(1, 7):
            client.infer(tag)
        assert client.receives() == ["failed 6 RESOURCE_EXHAUSTED"]
        assert client.errors[6].message.endswith("; try again in 0.250 s"), "when half of the five have ended"
        assert client.errors[6].retry_after == pytest.approx(0.25)

    def test_a_model_may_have_bounds_of_its_own(self) -> None:
        bounded = replace(step(), max_queue=1)
        other = replace(step(), name="other", max_queue=0)
        world = Scenario(bounded, other, limits=Limits(max_queue=2))
        client = world.client()
        for tag in range(1, 5):
            client.infer(tag)
            client.infer(10 + tag, "other")
        assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED", "failed 4 RESOURCE_EXHAUSTED"]

    def test_a_batch_of_tickets_starts_at_once(self) -> None:
        world = Scenario(many(batch=4, direct=False), limits=Limits(max_queue=1))
        client = world.client()
        infer_many(client, *range(1, 7))
        assert client.receives() == ["failed 6 RESOURCE_EXHAUSTED"]

    def test_a_chain_counts_by_its_one_ticket_that_can_run(self) -> None:
        world = world_of(most=1)
        client = world.client()
        client.infer(1, keep=["y"])
        for tag in range(2, 9):
            client.infer(tag, x=f"take {tag - 1}.y", keep=["y"])
        assert client.receives() == []
        client.infer(9)
        client.infer(10)
        assert client.receives() == ["failed 10 RESOURCE_EXHAUSTED"]
        assert sorted(world.runs()) == [*range(1, 10)]

    def test_a_refused_ticket_takes_nothing(self) -> None:
        world = world_of(most=1)
        client = world.client()
        client.infer(1, keep=["y"])
        assert world.runs() == [1]
        client.infer(2)
        client.infer(3)
        client.infer(4, x="take 1.y")
        assert client.receives() == ["done 1", "failed 4 RESOURCE_EXHAUSTED"]
        assert world.runs() == [2, 3]
        client.infer(4, x="take 1.y")
        assert world.runs() == [4]

    def test_the_tickets_of_a_client_that_does_not_read_take_no_place(self) -> None:
        world = world_of(most=2, limits=Limits(unsent_bytes=10))
        deaf, client = world.client("deaf"), world.client("client")
        deaf.infer(1, outputs=["y"])
        deaf.infer(2)
        assert world.runs() == [1]
        deaf.infer(3)
        deaf.infer(4)
        for tag in (11, 12, 13):
            client.infer(tag)
        assert client.receives() == []
        client.infer(14)
        assert client.receives() == ["failed 14 RESOURCE_EXHAUSTED"]
        deaf.receives()
        assert sorted(world.runs()) == [2, 3, 4, 11, 12, 13]


class TestEntitled:
    def test_a_lower_priority_makes_room(self) -> None:
        world = world_of(most=2)
        client = world.client()
        client.infer(1)
        assert world.starts() == [1]
        client.infer(2, keep=["y"], priority=1)
        client.infer(3, x="2.y", priority=0)
        client.infer(4)
        client.infer(5, priority=3)
        assert client.receives() == ["failed 4 RESOURCE_EXHAUSTED"]
        client.infer(6, priority=3)
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED", "failed 3 FAILED_PRECONDITION"]
        client.infer(7, priority=3)
        client.infer(8, priority=1)
        assert client.receives() == ["failed 7 RESOURCE_EXHAUSTED", "failed 8 RESOURCE_EXHAUSTED"]
        world.end(1)
        assert world.runs() == [5, 6]
        assert (statistics(world).refused, statistics(world).overdue, statistics(world).fail[0]) == (2, 2, 3)

    def test_a_priority_that_was_lowered_makes_no_room(self) -> None:
        world = world_of(most=1, limits=Limits(max_priority=0))
        client = world.client()
        client.infer(1)
        client.infer(2)
        client.infer(3, priority=9)
        assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED"]

    def test_who_has_most_makes_room_for_who_has_less(self) -> None:
        world = world_of(most=6)
        greedy, modest = world.client("greedy"), world.client("modest")
        for tag in range(1, 9):
            greedy.infer(tag)
        assert world.starts() == [1]
        assert greedy.receives() == ["failed 8 RESOURCE_EXHAUSTED"]
        for tag in (11, 12, 13):
            modest.infer(tag)
        assert modest.receives() == ["failed 13 RESOURCE_EXHAUSTED"]
        assert greedy.receives() == ["failed 7 RESOURCE_EXHAUSTED", "failed 6 RESOURCE_EXHAUSTED"], "the newest"
        greedy.infer(6)
        assert greedy.receives() == ["failed 6 RESOURCE_EXHAUSTED"]

    def test_streams_of_one_client_are_one(self) -> None:
        world = world_of(most=2)
        streams = [world.client("client") for _ in range(5)]
        for tag, stream in enumerate(streams, 1):
            stream.infer(tag)
        assert [stream.receives() for stream in streams] == [[]] * 3 + [
            [f"failed {n} RESOURCE_EXHAUSTED"] for n in (4, 5)
        ]


class TestTime:
    def test_who_would_wait_too_long_is_refused(self) -> None:
        world = world_of(seconds=4.5 * RUN)
        client = world.client()
        paced(world, client)
        for tag in range(1, 8):
            client.infer(tag)
        assert client.receives() == ["failed 6 RESOURCE_EXHAUSTED", "failed 7 RESOURCE_EXHAUSTED"]
        assert client.errors[6].retryable
        assert client.errors[6].message == (
            "a ticket would wait 0.500 s for model 'step', and the limit is 0.45 s; try again in 0.050 s"
        )
        assert statistics(world).refused == 2
        for tag in range(1, 6):
            assert world.starts() == [tag]
            world.now += RUN
            world.end(tag)
        assert client.receives() == [f"done {tag}" for tag in range(1, 6)], "the estimate was right"

    def test_a_higher_priority_waits_less(self) -> None:
        world = world_of(seconds=2.5 * RUN)
        client = world.client()
        paced(world, client)
        for tag in range(1, 5):
            client.infer(tag)
        assert client.receives() == ["failed 4 RESOURCE_EXHAUSTED"]
        client.infer(5, priority=1)
        assert client.receives() == []

    def test_a_client_with_few_tickets_waits_less_than_one_with_many(self) -> None:
        world = world_of(seconds=2.5 * RUN)
        many_of, few = world.client("many"), world.client("few")
        paced(world, few)
        for tag in range(1, 5):
            many_of.infer(tag)
        assert many_of.receives() == ["failed 4 RESOURCE_EXHAUSTED"]
        few.infer(11)
        few.infer(12)
        assert few.receives() == ["failed 12 RESOURCE_EXHAUSTED"]

    def test_a_ticket_that_has_waited_so_long_fails(self) -> None:
        world = world_of(seconds=1.0)
        client = world.client()
        client.infer(1)
        client.infer(2, keep=["y"])
        client.infer(3, x="2.y")
        client.infer(4, timeout=0.5)
        client.infer(5, timeout=3.0)
        assert world.starts() == [1]
        decision = world.settled()
        assert decision.wake_at == world.now + 0.5
        assert world.after(0.5) == []
        assert client.receives() == ["failed 4 DEADLINE_EXCEEDED"]
        assert world.after(0.5) == []
        failed = ["failed 2 RESOURCE_EXHAUSTED", "failed 3 FAILED_PRECONDITION", "failed 5 RESOURCE_EXHAUSTED"]
        assert sorted(client.receives()) == failed
        assert client.errors[2].retryable
        assert client.errors[2].message.startswith("ticket 2 has waited 1.000 s for model 'step', and the limit is 1 s")
        world.end(1)
        assert world.starts() == []
        assert (statistics(world).refused, statistics(world).overdue, statistics(world).fail[0]) == (0, 2, 4)

    def test_a_run_may_take_longer_than_tickets_may_wait(self) -> None:
        world = world_of(seconds=1.0)
        client = world.client()
        client.infer(1)
        client.infer(2, timeout=3.0)
        assert world.starts() == [1]
        assert world.after(0.75) == []
        world.end(1)
        assert world.starts() == [2]
        assert world.after(2.0) == []
        assert client.receives() == ["done 1"]
        assert world.after(0.25) == []
        assert client.receives() == ["failed 2 DEADLINE_EXCEEDED"], "its own timeout counts again"

    def test_one_ticket_may_wait_however_slow_the_model_was(self) -> None:
        world = world_of(seconds=RUN / 2)
        client = world.client()
        for tag in range(1, 30):
            client.infer(tag)
            assert client.receives() == ([] if tag == 1 else [f"done {tag - 1}"])
            assert world.starts() == [tag]
            world.now += RUN
            world.end(tag)


class TestSequences:
    def test_a_sequence_that_has_begun_is_not_refused(self) -> None:
        world = SequenceWorld(recurrent(slots=1), limits=Limits(max_queue=1))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 8, "start")
        world.send(stream, 3, 9, "start")
        assert world.starts() == [1]
        world.read()
        assert world.ends == {3: "RESOURCE_EXHAUSTED"}
        for tag in (4, 5):
            world.send(stream, tag, 7)
        world.send(stream, 6, 9)
        world.end(1)
        assert world.runs() == [2, 4, 5]
        assert world.ends[6] == "FAILED_PRECONDITION"
        assert "a request of it ended with RESOURCE_EXHAUSTED" in world.errors[6].message


class TestPace:
    def test_the_pace_is_that_of_all_slots(self) -> None:
        pace = Pace()
        for end in range(1, 50):
            pace.ended(1, 4 * RUN, 4, end * RUN, waiting=True)
        assert pace.seconds == pytest.approx(RUN)

    def test_time_in_which_nobody_waits_does_not_count(self) -> None:
        pace = Pace()
        pace.ended(2, RUN, 1, 1.0, waiting=True)
        pace.ended(2, RUN, 1, 1.0 + RUN, waiting=False)
        pace.ended(1, RUN, 1, 100.0, waiting=True)
        assert pace.seconds == pytest.approx(RUN / 2)

    def test_it_follows_a_model_that_slows_down(self) -> None:
        pace, now = Pace(), 0.0
        for run in [RUN] * 100 + [3 * RUN] * 100:
            now += run
            pace.ended(1, run, 1, now, waiting=True)
        assert pace.seconds == pytest.approx(3 * RUN, rel=0.1)

    def test_ends_that_come_together_do_not_count_as_fast(self) -> None:
        pace = Pace()
        for end in range(200):
            pace.ended(1, 2 * RUN, 2, (end // 2) * 2 * RUN, waiting=True)
        assert pace.seconds == pytest.approx(RUN, rel=0.05)
