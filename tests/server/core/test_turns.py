"""Whose turn it is: priority, then one owner after the other, one stream after the other, first come, first served."""

from __future__ import annotations

import pytest

from headrace.server.core.limits import Limits
from tests.server.core.model_specs import many
from tests.server.core.scenario import Scenario, batches, infer_many


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


class TestOwners:
    def test_owners_take_turns_before_their_streams_do(self) -> None:
        world = Scenario()
        several = [world.client("several") for _ in range(3)]
        one = world.client("one")
        for number, client in enumerate(several):
            for tag in (1, 2):
                client.infer(10 * number + tag)
        for tag in (101, 102, 103, 104):
            one.infer(tag)
        assert world.runs() == [1, 101, 11, 102, 21, 103, 2, 104, 12, 22]

    @pytest.mark.parametrize("unary", [False, True])
    def test_sixty_streams_gain_nothing(self, unary: bool) -> None:
        world = Scenario()
        for tag in range(1, 61):
            world.client("greedy", unary=unary).infer(tag)
        modest = world.client("modest")
        for tag in range(101, 111):
            modest.infer(tag)
        assert [tag > 100 for tag in world.runs()[:20]] == [False, True] * 10

    def test_owners_take_turns_with_batches_too(self) -> None:
        world = Scenario(many(batch=4))
        for tag in (1, 2, 3, 4):
            infer_many(world.client("greedy"), tag)
        infer_many(world.client("modest"), 11, 12)
        assert batches(world) == [[1, 11, 2, 12], [3, 4]]

    def test_an_owner_whose_streams_are_all_backpressured_keeps_its_place(self) -> None:
        world = Scenario(limits=Limits(unsent_bytes=15))
        slow, quick, other = world.client("a"), world.client("a"), world.client("b")
        for client, first in ((slow, 1), (other, 21)):
            for tag in range(first, first + 3):
                client.infer(tag, outputs=["y"] if client is slow else ())
        assert world.runs() == [1, 21, 22, 23]
        other.infer(24)
        other.infer(25)
        quick.infer(11)
        assert world.starts() == [11]
        slow.receives()
        world.end(11)
        assert world.runs() == [24, 2, 25]


class TestMaxPriority:
    @pytest.mark.parametrize(("most", "order"), [(9, [4, 3, 2, 1]), (5, [3, 4, 2, 1]), (0, [1, 2, 3, 4])])
    def test_a_higher_priority_is_lowered(self, most: int, order: list[int]) -> None:
        world = Scenario(limits=Limits(max_priority=most))
        client = world.client()
        for tag, priority in enumerate((0, 4, 5, 9), 1):
            client.infer(tag, priority=priority)
        assert world.runs() == order

    def test_a_priority_that_does_not_exist_is_refused_whatever_the_limit(self) -> None:
        world = Scenario(limits=Limits(max_priority=0))
        client = world.client()
        client.infer(1, priority=10)
        assert client.receives() == ["failed 1 INVALID_ARGUMENT"]


class TestAging:
    """Each second of waiting raises a priority by one, up to the highest one that waits."""

    def started(self, world: Scenario) -> int:
        (tag,) = world.starts()
        world.end(tag)
        return tag

    def test_no_flood_of_a_higher_priority_keeps_a_ticket_waiting_for_ever(self) -> None:
        world = Scenario()
        patient, flood = world.client("a"), world.client("b")
        for tag in (1, 2):
            patient.infer(tag)
        order: list[int] = []
        for tag in range(101, 125):
            flood.infer(tag, priority=9)
            flood.infer(tag + 100, priority=9)
            order += [self.started(world), self.started(world)]
            world.now += 0.5
        assert order.index(1) == 36
        assert order.index(2) == 38

    def test_all_that_have_waited_share_the_slots_with_the_flood(self) -> None:
        world = Scenario()
        patient, flood = world.client("a"), world.client("b")
        for tag in range(1, 11):
            patient.infer(tag, priority=7)
        for tag in range(101, 121):
            flood.infer(tag, priority=9)
        assert world.starts() == [101]
        world.now += 1.9
        world.end(101)
        assert world.starts() == [102]
        world.now += 0.2
        world.end(102)
        assert [self.started(world) < 100 for _ in range(20)] == [True, False] * 10

    def test_a_ticket_that_waits_does_not_overtake_a_higher_priority_by_more_than_its_share(self) -> None:
        world = Scenario()
        old, urgent = world.client("a"), world.client("b")
        for tag in (1, 2, 3):
            old.infer(tag)
        world.now += 100
        for tag in (11, 12, 13):
            urgent.infer(tag, priority=1)
        assert world.runs() == [1, 11, 2, 12, 3, 13]

    def test_tickets_that_are_cancelled_and_sent_again_do_not_keep_others_from_aging(self) -> None:
        world = Scenario()
        rude, patient, flood = world.client("a"), world.client("b"), world.client("c")
        flood.infer(1000, priority=9)
        assert world.starts() == [1000]
        rude.infer(1)
        patient.infer(500)
        for tag in range(2, 12):
            flood.infer(1000 + tag, priority=9)
            flood.infer(2000 + tag, priority=9)
            rude.infer(tag)
            rude.cancel(tag - 1)
            rude.receives()
            world.now += 1
        order: list[int] = []
        world.end(1000)
        while started := world.starts():
            order += started
            world.end(started[0])
        assert order.index(500) <= 3


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
