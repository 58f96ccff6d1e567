"""Tickets whose turns follow each other share a run where they can; batches never change whose turn it is."""

from __future__ import annotations

from random import Random

import pytest

from headrace.server.core.calls import Call, Zeros
from headrace.server.core.engine_api import Run
from headrace.server.core.events import Done
from headrace.server.core.limits import Limits
from headrace.wire.dtypes import Datatype
from tests.server.core.model_specs import grow, many, model, port, step
from tests.server.core.scenario import Client, Scenario, batches, infer_many


def sent_shapes(client: Client, tag: int) -> list[tuple[int, ...]]:
    done = client.events[tag]
    assert isinstance(done, Done)
    return [tensor.shape for tensor in done.sent]


class TestSharedRuns:
    def test_tickets_queued_at_the_same_time_share_a_run(self) -> None:
        world = Scenario(many())
        client = world.client()
        infer_many(client, 1, 2, 3)
        assert world.starts() == [1, 2, 3]
        assert world.batches == [[1, 2, 3]]
        run = world.running[1]
        assert [part.rows for part in run.parts] == [1, 1, 1]
        assert (run.spec.name, run.slot) == ("many", 0)
        world.end(2)
        assert client.receives() == ["done 1", "done 2", "done 3"]

    def test_a_ticket_does_not_join_a_batch_that_runs_already(self) -> None:
        world = Scenario(many())
        client = world.client()
        infer_many(client, 1)
        assert world.starts() == [1]
        infer_many(client, 2, 3)
        assert world.starts() == []
        world.end(1)
        assert world.starts() == [2, 3]
        assert world.batches == [[2, 3]]

    def test_each_ticket_of_a_batch_gets_its_own_outputs(self) -> None:
        world = Scenario(many())
        alice, bob = world.client(), world.client()
        alice.infer(1, "many", x=(1,), outputs=["y"])
        bob.infer(11, "many", x=(2,), outputs=["big", "y"], keep=["y"])
        alice.infer(2, "many", x=(1,))
        world.starts()
        assert world.batches == [[1, 11, 2]]
        world.end(1)
        assert alice.receives() == ["done 1", "done 2"]
        assert bob.receives() == ["done 11"]
        assert sent_shapes(alice, 1) == [(1,)]
        assert sent_shapes(alice, 2) == []
        assert sent_shapes(bob, 11) == [(2, 1024), (2,)]
        (kept,) = bob.stream.tickets[11].own.values()
        assert kept.tensor is bob.events[11].sent[1]  # type: ignore[union-attr]

    def test_the_rows_of_a_batch_add_up_to_the_maximum(self) -> None:
        world = Scenario(many(batch=4))
        client = world.client()
        infer_many(client, 1, 2, 3, 4, 5, 6)
        infer_many(client, 7, 8, rows=2)
        infer_many(client, 9, rows=4)
        assert batches(world) == [[1, 2, 3, 4], [5, 6, 7], [8], [9]]

    def test_a_batch_ends_before_the_first_ticket_that_does_not_fit(self) -> None:
        world = Scenario(many(batch=4))
        client = world.client()
        infer_many(client, 1, rows=3)
        infer_many(client, 2, rows=2)
        infer_many(client, 3)
        assert batches(world) == [[1], [2, 3]]

    @pytest.mark.parametrize("rows", [0, 5])
    def test_tickets_without_rows_or_with_too_many_run_alone(self, rows: int) -> None:
        world = Scenario(many(batch=4))
        client = world.client()
        infer_many(client, 1)
        infer_many(client, 2, 3, rows=rows)
        infer_many(client, 4, 5)
        assert batches(world) == [[1], [2], [3], [4, 5]]

    def test_tickets_whose_inputs_differ_in_rows_run_alone(self) -> None:
        two = model("two", [port(0, "a", None), port(1, "b", None)], [port(0, "y", None)], direct=True, batch=4)
        world = Scenario(two)
        client = world.client()
        for tag, a, b in ((1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2), (5, 1, 1)):
            client.infer(tag, "two", a=(a,), b=(b,))
        assert batches(world) == [[1], [2], [3], [4, 5]]

    def test_only_the_first_axis_counts_as_rows(self) -> None:
        wide = model("wide", [port(0, "x", None, 3), port(1, "i", None)], [port(0, "y", None)], direct=True, batch=4)
        world = Scenario(wide)
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag, "wide", x=(2, 3), i=(2,))
        assert batches(world) == [[1, 2], [3]]

    def test_inputs_of_zeros_have_rows_too(self) -> None:
        world = Scenario(many(batch=4))
        client = world.client()
        for tag, rows in ((1, 3), (2, 1), (3, 5), (4, 1)):
            zeros = client.define(Call("many", "", (Zeros("x", Datatype.FP32, (rows,)),), (), False, ()))
            world.core.infer(client.stream, tag, zeros, [], world.core.charge(client.stream, 0), world.now)
        assert batches(world) == [[1, 2], [3], [4]]

    def test_tickets_of_different_models_never_share_a_run(self) -> None:
        world = Scenario(many(), grow())
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag, "many", x=(1,))
            client.infer(tag + 10, "grow", x=(1,))
        world.starts()
        assert sorted(world.batches) == [[1, 2, 3], [11]]

    def test_tickets_of_a_model_without_batches_run_alone(self) -> None:
        world = Scenario(step(slots=2))
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag)
        assert world.starts() == [1, 2]
        assert world.batches == [[1], [2]]


class TestReferences:
    def test_tickets_with_references_join_a_batch_with_the_rows_of_their_sources(self) -> None:
        world = Scenario(many(batch=4))
        client = world.client()
        client.infer(1, "many", x=(2,), keep=["y"])
        client.infer(2, "many", x=(3,), keep=["y"])
        batches(world)
        client.infer(3, "many", x="1.y")
        infer_many(client, 4, 5)
        client.infer(6, "many", x="2.y")
        infer_many(client, 7)
        assert batches(world) == [[3, 4, 5], [6, 7]]

    def test_each_part_of_a_batch_has_its_own_references(self) -> None:
        world = Scenario(many())
        client = world.client()
        for tag in (1, 2):
            client.infer(tag, "many", x=(1,), keep=["y"])
        batches(world)
        kept = [client.stream.tickets[tag].own[0].tensor for tag in (1, 2)]
        client.infer(3, "many", x="take 2.y")
        infer_many(client, 4)
        client.infer(5, "many", x="1.y")
        assert world.starts() == [3, 4, 5]
        assert world.batches == [[3, 4, 5]]
        assert [[*world.part(tag).references] for tag in (3, 4, 5)] == [[kept[1]], [], [kept[0]]]
        assert [len(world.part(tag).inline) for tag in (3, 4, 5)] == [0, 1, 0]

    def test_a_reference_that_differs_in_rows_from_other_inputs_runs_alone(self) -> None:
        two = model("two", [port(0, "a", None), port(1, "b", None)], [port(0, "y", None)], direct=True, batch=4)
        world = Scenario(two)
        client = world.client()
        client.infer(1, "two", a=(1,), b=(1,), keep=["y"])
        batches(world)
        client.infer(2, "two", a=(1,), b="1.y")
        client.infer(3, "two", a="1.y", b=(2,))
        client.infer(4, "two", a="1.y", b="1.y")
        client.infer(5, "two", a=(1,), b=(1,))
        assert batches(world) == [[2], [3], [4, 5]]

    def test_all_tickets_that_waited_for_one_source_run_together(self) -> None:
        world = Scenario(many())
        client = world.client()
        client.infer(1, "many", x=(1,), keep=["y"])
        for tag in (2, 3, 4):
            client.infer(tag, "many", x="1.y", keep=["y"])
        client.infer(5, "many", x="3.y")
        assert batches(world) == [[1], [2, 3, 4], [5]]
        assert client.receives() == ["done 1", "done 2", "done 3", "done 4", "done 5"]

    def test_no_ticket_shares_a_run_with_its_source(self) -> None:
        world = Scenario(many())
        client = world.client()
        client.infer(1, "many", x=(1,), keep=["y"])
        client.infer(2, "many", x="1.y", keep=["y"])
        infer_many(client, 3)
        client.infer(4, "many", x="2.y")
        assert batches(world) == [[1, 3], [2], [4]]


class TestTurns:
    def test_a_batch_takes_one_ticket_of_each_stream_in_turn(self) -> None:
        world = Scenario(many(batch=3))
        alice, bob, carol = world.client(), world.client(), world.client()
        infer_many(alice, 1, 2, 3, 4)
        infer_many(bob, 11, 12)
        infer_many(carol, 21)
        assert batches(world) == [[1, 11, 21], [2, 12, 3], [4]]

    def test_turns_go_on_where_the_last_batch_ended(self) -> None:
        world = Scenario(many(batch=2))
        alice, bob, carol = world.client(), world.client(), world.client()
        infer_many(alice, 1, 2, 3)
        infer_many(bob, 11, 12)
        infer_many(carol, 21, 22)
        assert batches(world) == [[1, 11], [21, 2], [12, 22], [3]]

    def test_a_stream_that_sends_tickets_one_by_one_gets_its_share_of_batches(self) -> None:
        world = Scenario(many(batch=2))
        alice, bob = world.client(), world.client()
        infer_many(alice, *range(1, 7))
        found: list[list[int]] = []
        for tag in (101, 102, 103):
            infer_many(bob, tag)
            world.starts()
            found += world.batches
            world.end(tag)
        assert found == [[1, 101], [2, 102], [3, 103]]

    def test_all_tickets_of_a_batch_have_one_priority(self) -> None:
        world = Scenario(many(batch=4))
        alice, bob = world.client(), world.client()
        infer_many(alice, 1, 2)
        infer_many(alice, 3, priority=5)
        infer_many(bob, 11, priority=5)
        infer_many(bob, 12)
        infer_many(bob, 13, priority=9)
        assert batches(world) == [[13], [3, 11], [1, 12, 2]]

    def test_of_a_backpressured_stream_only_the_oldest_infer_joins_a_batch(self) -> None:
        world = Scenario(many(), limits=Limits(unsent_bytes=3))
        alice, bob = world.client(), world.client()
        alice.infer(1, "many", x=(1,), outputs=["y"])
        batches(world)
        world.take(alice.stream)  # and not written
        infer_many(alice, 2, 3)
        infer_many(bob, 11, 12)
        assert world.starts() == [2, 11, 12]
        assert world.batches == [[2, 11, 12]]
        world.end(2)
        assert world.starts() == []
        assert alice.receives() == ["done 2"]
        assert world.starts() == [3]

    @pytest.mark.parametrize("seed", range(20))
    def test_batches_never_change_the_order_of_starts(self, seed: int) -> None:
        orders: list[list[int]] = []
        for batch in (1, 2, 3, 8):
            random = Random(seed)
            world = Scenario(many(batch=batch))
            clients = [world.client() for _ in range(3)]
            for tag in range(1, 25):
                infer_many(
                    random.choice(clients), tag, rows=random.choice([0, 1, 1, 2, 3]), priority=random.choice([0, 0, 4])
                )
            runs = batches(world)
            assert batch < 3 or max(map(len, runs)) > 1
            orders.append([tag for tags in runs for tag in tags])
        assert orders[0] == orders[1] == orders[2] == orders[3]
        assert len(orders[0]) == 24


class TestSlots:
    def started(self, slots: int, tags: int, *, direct: bool = False, busy: int = 0, rows: int = 1) -> list[list[int]]:
        world = Scenario(many(slots, direct=direct))
        client = world.client()
        for tag in range(101, 101 + busy):
            infer_many(client, tag)
            world.starts()
        infer_many(client, *range(1, tags + 1), rows=rows)
        world.starts()
        return world.batches

    def test_free_slots_share_the_queued_tickets(self) -> None:
        assert self.started(2, 4) == [[1, 2], [3, 4]]
        assert self.started(2, 5) == [[1, 2, 3], [4, 5]]
        assert self.started(3, 2) == [[1], [2]]
        assert self.started(3, 7) == [[1, 2, 3], [4, 5], [6, 7]]
        assert self.started(1, 4) == [[1, 2, 3, 4]]

    def test_the_share_of_a_slot_is_at_most_the_largest_batch(self) -> None:
        assert self.started(2, 11) == [[1, 2, 3, 4], [5, 6, 7, 8]]

    def test_slots_that_run_get_no_share_of_the_queue(self) -> None:
        assert self.started(2, 4, busy=1) == [[1, 2, 3, 4]]
        assert self.started(3, 4, busy=1) == [[1, 2], [3, 4]]

    def test_direct_models_do_not_share_the_queue_among_slots(self) -> None:
        assert self.started(2, 4, direct=True) == [[1, 2, 3, 4]]
        assert self.started(2, 5, direct=True) == [[1, 2, 3, 4], [5]]

    def test_one_ticket_may_have_more_rows_than_the_share_of_a_slot(self) -> None:
        assert self.started(2, 2, rows=3) == [[1], [2]]
        assert self.started(2, 4, rows=2) == [[1], [2]]
        assert self.started(1, 4, rows=2) == [[1, 2]]

    def test_queued_tickets_of_another_priority_count_in_the_share_of_a_slot(self) -> None:
        world = Scenario(many(2, direct=False))
        client = world.client()
        infer_many(client, 1, 2)
        infer_many(client, 3, 4, 5, priority=1)
        world.starts()
        assert world.batches == [[3, 4, 5], [1, 2]]

    def test_a_batch_occupies_one_slot_until_it_ends(self) -> None:
        world = Scenario(many(2))
        client = world.client()
        infer_many(client, *range(1, 13))
        assert world.starts() == [*range(1, 9)]
        slots = {world.running[tag].slot for tag in (1, 5)}
        assert slots == {0, 1}
        freed = world.running[5].slot
        world.end(5)
        assert world.starts() == [9, 10, 11, 12]
        assert world.running[9].slot == freed


def test_an_ordered_stream_gets_the_ends_of_a_batch_in_order() -> None:
    world = Scenario(many(2, direct=False))
    client, other = world.client(ordered=True), world.client()
    infer_many(client, 1, 2)
    infer_many(client, 3, priority=1)
    infer_many(other, 11)
    world.starts()
    assert world.batches == [[3], [1, 11, 2]]
    infer_many(client, 4)
    world.end(3)
    assert world.starts() == [4]
    world.end(4)
    assert client.receives() == []
    world.end(1)
    assert client.receives() == ["done 1", "done 2", "done 3", "done 4"]
    assert other.receives() == ["done 11"]


def test_each_ticket_of_a_batch_has_times_of_its_own() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1)
    world.now += 2
    infer_many(client, 2)
    world.now += 3
    world.starts()
    world.now += 4
    world.end(1)
    client.receives()
    first, second = client.events[1], client.events[2]
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert (first.waiting, first.queued, first.running) == (0, 5, 4)
    assert (second.waiting, second.queued, second.running) == (0, 3, 4)


def test_a_run_knows_its_model_and_its_parts() -> None:
    world = Scenario(many())
    client = world.client()
    client.infer(1, "many", x=(1,), keep=["big", "y"])
    client.infer(2, "many", x=(2,), keep=["big"])
    client.infer(3, "many", x="1.y")
    client.release(1)
    world.starts()
    run: Run = world.running[1]
    assert run.spec is world.core.models.find("many").spec
    assert [[*part.keep] for part in run.parts] == [[1], [0]]
    assert [[len(data) for data in part.inline] for part in run.parts] == [[4], [8]]
    assert [part.rows for part in run.parts] == [1, 2]
