"""Whose turn it is: priority, then round-robin over streams, then first come, first served."""

from __future__ import annotations

import pytest

from headrace.server.core.limits import Limits
from tests.server.core.scenario import Scenario


class TestPriority:
    def test_the_higher_priority_starts_first(self) -> None:
        world = Scenario()
        client = world.client()
        for tag, priority in enumerate([0, 3, 9, 3, 1], start=1):
            client.infer(tag, priority=priority)
        assert world.runs() == [3, 2, 4, 5, 1]

    def test_priority_goes_before_fairness(self) -> None:
        world = Scenario()
        alice, bob = world.client(), world.client()
        for tag in (1, 2, 3):
            alice.infer(tag, priority=1)
        bob.infer(11)
        assert world.runs() == [1, 2, 3, 11]

    def test_a_source_inherits_priority_all_the_way_up(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="1.y", keep=["y"], priority=1)
        client.infer(3, priority=4)
        client.infer(4, x="2.y", priority=5)
        client.infer(5, priority=2)
        assert world.runs() == [1, 2, 4, 3, 5]

    def test_a_source_inherits_the_highest_priority_and_never_a_lower_one(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"], priority=2)
        client.infer(2, x="1.y", priority=7)
        client.infer(3, x="1.y", priority=4)
        client.infer(4, priority=6)
        client.infer(5, x="1.y")
        assert world.runs() == [1, 2, 4, 3, 5]

    def test_all_sources_of_a_ticket_inherit_its_priority(self) -> None:
        world = Scenario()
        client, other = world.client(), world.client()
        client.infer(1, keep=["y"])
        client.infer(2, keep=["y"])
        other.infer(11, priority=1)
        other.infer(12, priority=1)
        client.infer(3, "add", a="1.y", b="2.y", priority=2)
        client.infer(4, priority=1)
        assert world.runs()[:2] == [1, 2]

    def test_a_source_in_another_model_inherits_priority(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, "add", a="1.y", keep=["y"])
        client.infer(3, priority=1)
        client.infer(4, "add", a="2.y", priority=2)
        order = world.runs()
        assert order.index(1) < order.index(3)

    def test_the_priority_of_a_source_that_runs_or_is_done_stays(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        assert world.starts() == [1]
        client.infer(2, x="1.y", priority=9)
        world.end(1)
        client.infer(3, x="1.y", priority=8)
        assert world.runs() == [2, 3]


class TestRoundRobin:
    def test_streams_take_turns_ticket_by_ticket(self) -> None:
        world = Scenario()
        alice, bob, carol = world.client(), world.client(), world.client()
        for tag in (1, 2, 3, 4):
            alice.infer(tag)
        for tag in (11, 12):
            bob.infer(tag)
        carol.infer(21)
        assert world.runs() == [1, 11, 21, 2, 12, 3, 4]

    def test_a_stream_that_sends_tickets_one_by_one_gets_its_share(self) -> None:
        world = Scenario()
        alice, bob = world.client(), world.client()
        for tag in range(1, 20):
            alice.infer(tag)
        order: list[int] = []
        for tag in range(101, 106):
            bob.infer(tag)
            for _ in range(2):
                (started,) = world.starts()
                world.end(started)
                order.append(started)
        assert [tag for tag in order if tag > 100] == [101, 102, 103, 104, 105]

    def test_streams_take_turns_at_each_priority(self) -> None:
        world = Scenario()
        alice, bob = world.client(), world.client()
        for tag in (1, 2):
            alice.infer(tag)
            alice.infer(tag + 10, priority=1)
            bob.infer(tag + 100)
            bob.infer(tag + 110, priority=1)
        assert world.runs() == [11, 111, 12, 112, 1, 101, 2, 102]

    def test_models_do_not_take_turns_with_each_other(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        client.infer(2)
        client.infer(3, "add")
        client.infer(4, "grow")
        assert sorted(world.starts()) == [1, 3, 4]

    def test_a_stream_that_has_vanished_loses_its_turn(self) -> None:
        world = Scenario()
        alice, bob = world.client(), world.client()
        for tag in (1, 2):
            alice.infer(tag)
            bob.infer(tag + 10)
        alice.vanish()
        assert world.runs() == [11, 12]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_as_many_tickets_run_as_there_are_slots(slots: int) -> None:
    world = Scenario(slots=slots)
    client = world.client()
    for tag in range(1, 8):
        client.infer(tag)
    assert world.starts() == [*range(1, slots + 1)]
    assert {run.slot for run in world.running.values()} == {*range(slots)}
    world.end(1)
    (next_one,) = world.starts()
    assert next_one == slots + 1
    assert {run.slot for run in world.running.values()} == {*range(slots)}


def test_all_commands_of_a_frame_are_admitted_before_the_first_one_starts() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2, priority=9)
    assert world.starts() == [2]


class TestUnsentBytes:
    """A stream whose unsent output bytes exceed its budget starts no further ticket except its oldest in flight."""

    def world(self) -> Scenario:
        return Scenario(limits=Limits(unsent_bytes=31))

    def test_a_client_that_does_not_read_blocks_only_itself(self) -> None:
        world = self.world()
        alice, bob = world.client(), world.client()
        for tag in range(1, 6):
            alice.infer(tag, outputs=["y"])
            bob.infer(tag + 10)
        assert world.runs() == [1, 11, 2, 12, 13, 14, 15]
        assert alice.stream.unsent_bytes == 32
        assert alice.receives() == ["done 1", "done 2"]
        assert world.runs() == [3, 4]
        assert alice.receives() == ["done 3", "done 4"]
        assert world.runs() == [5]

    def test_output_bytes_are_unsent_until_they_are_flushed(self) -> None:
        world = self.world()
        client = world.client()
        for tag in (1, 2, 3, 4):
            client.infer(tag, outputs=["y"])
        assert world.runs() == [1, 2]
        world.take(client.stream)
        assert client.stream.unsent_bytes == 32
        # The oldest in flight, for which others may wait, goes on.
        assert world.runs() == [3]
        assert world.runs() == []
        world.core.flushed(client.stream)
        assert world.runs() == [4]

    def test_everything_unsent_may_wait_for_the_oldest_infer(self) -> None:
        world = Scenario(slots=2, limits=Limits(unsent_bytes=0))
        client, other = world.client(ordered=True), world.client()
        other.infer(11)
        other.infer(12)
        assert world.starts() == [11, 12]
        client.infer(1)
        client.infer(2, outputs=["y"], priority=1)
        client.infer(3, priority=2)
        world.end(11)
        assert world.starts() == [3]
        world.end(12)
        assert world.starts() == [2]
        world.end(2)
        assert client.stream.unsent_bytes == 16
        world.end(3)
        client.infer(4, priority=9)
        assert world.starts() == [1]
        assert client.receives() == []
        world.end(1)
        assert world.starts() == []
        assert client.receives() == ["done 1", "done 2", "done 3"]
        assert world.starts() == [4]

    def test_the_oldest_infer_is_the_first_admitted_not_the_first_ready(self) -> None:
        world = Scenario(limits=Limits(unsent_bytes=15))
        client, other = world.client(), world.client()
        other.infer(11)
        assert world.starts() == [11]
        client.infer(1, "grow", keep=["y"], outputs=["y"])
        client.infer(2, x="1.y")
        client.infer(3)
        assert world.starts() == [1]
        world.end(1)
        world.take(client.stream)
        world.end(11)
        assert world.starts() == [2]
        world.end(2)
        assert world.starts() == []

    def test_a_backpressured_stream_does_not_lose_its_turn(self) -> None:
        world = self.world()
        alice, bob = world.client(), world.client()
        for tag in (1, 2, 3):
            alice.infer(tag, outputs=["y"])
        assert world.runs() == [1, 2]
        bob.infer(11)
        bob.infer(12)
        alice.receives()
        assert world.runs() == [3, 11, 12]

    def test_fetched_bytes_count_as_unsent(self) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.receives()
        client.fetch(2, "1.y")
        client.fetch(3, "1.y", (0, 1))
        assert client.stream.unsent_bytes == 20
        client.fetch(4, "1.y")
        client.infer(5)
        client.infer(6)
        assert world.runs() == [5]
        assert client.receives() == ["fetched 2", "fetched 3", "fetched 4", "done 5"]
        assert client.stream.unsent_bytes == 0
        assert world.runs() == [6]


def test_commands_are_read_while_fewer_than_two_windows_of_events_are_unsent() -> None:
    world = Scenario(limits=Limits(window=2))
    client = world.client()
    for _ in range(3):
        client.infer(0)
    assert client.stream.may_read
    client.infer(0)
    assert not client.stream.may_read
    client.receives()
    assert client.stream.may_read
