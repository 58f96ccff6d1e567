"""Followers of a run in place are run at once, and the core is told of all of them afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from itertools import pairwise

import pytest

from headrace.server.core.engine_api import End, Ended, Run
from headrace.server.core.events import Done
from headrace.server.core.limits import Limits
from headrace.server.core.state import Ticket
from headrace.wire.errors import HeadraceError, Internal
from tests.server.core.model_specs import add, grow, many, model, outputs_of, port, step
from tests.server.core.scenario import Client, Scenario


def done(world: Scenario, run: Run, error: HeadraceError | None = None) -> End:
    """A run that has ended just now."""
    results = [outputs_of(part) for part in run.parts]
    sent, kept = [sent for sent, _ in results], [kept for _, kept in results]
    return End(Ended(run, error=error) if error else Ended(run, sent, kept), error, world.now)


def tag_of(run: Run | None) -> int | None:
    if run is None:
        return None
    (ticket,) = run.parts
    assert isinstance(ticket, Ticket)
    return ticket.tag


def chained(world: Scenario, *, steps: int = 4) -> tuple[Client, Run]:
    """A client whose tickets 1, 2, 3... each take the output of the one before; the first one runs."""
    client = world.client()
    client.infer(1, keep=["y"])
    for tag in range(2, steps + 1):
        client.infer(tag, x=f"take {tag - 1}.y", keep=["y"])
    assert world.starts() == [1]
    return client, world.running.pop(1)


def in_place(world: Scenario, run: Run, most: int = 9) -> list[End]:
    """The ends of a run and its followers, each of which takes a second."""
    ends: list[End] = []
    following: Run | None = run
    while following is not None and len(ends) < most:
        world.now += 1
        ends.append(done(world, following))
        following = world.core.follower(ends[-1].ended)
    return ends


def test_a_chain_is_done_in_one_go() -> None:
    world = Scenario()
    client, run = chained(world)
    ends = in_place(world, run)
    assert [tag_of(end.ended.run) for end in ends] == [1, 2, 3, 4]
    assert {end.ended.run.slot for end in ends} == {run.slot}
    for before, end in pairwise(ends):
        assert end.ended.run.parts[0].references == before.ended.kept[0]
    assert client.receives() == []
    assert len(world.core.ended_in_place(ends)) == 4
    events = world.take(client.stream)
    assert [(event.tag, event.waiting, event.queued, event.running) for event in events if type(event) is Done] == [
        (1, 0, 0, 1),
        (2, 1, 0, 1),
        (3, 2, 0, 1),
        (4, 3, 0, 1),
    ]
    assert world.starts() == []
    assert client.live == {4}


def test_a_follower_that_was_not_run_in_place_is_started_by_the_next_decision() -> None:
    world = Scenario()
    client, run = chained(world)
    assert len(world.core.ended_in_place(in_place(world, run, most=2))) == 2
    assert client.receives() == ["done 1", "done 2"]
    assert world.starts() == [3]


def test_several_outputs_are_handed_on_to_a_follower() -> None:
    lstm = model("lstm", [port(0, "h", 4), port(1, "c", 8)], [port(0, "y", 4), port(1, "hn", 4), port(2, "cn", 8)])
    world = Scenario(lstm)
    client = world.client()
    client.infer(1, "lstm", keep=["cn", "hn"])  # not in the order of the inputs
    client.infer(2, "lstm", c="take 1.cn", h="1.hn", outputs=["y"])
    assert world.starts() == [1]
    first = done(world, world.running.pop(1))
    second = world.core.follower(first.ended)
    assert second is not None
    (part,) = second.parts
    shapes = [tensor.shape for tensor in part.references]
    assert part.plan is not None
    assert [reference.port.name for reference in part.plan.references] == ["h", "c"]
    assert shapes == [(4,), (8,)]
    assert len(world.core.ended_in_place([first, done(world, second)])) == 2
    assert client.receives() == ["done 1", "done 2"]
    assert client.live == {1}


def test_one_source_of_a_follower_may_have_been_done_before() -> None:
    world = Scenario(step(), add())
    client = world.client()
    client.infer(1, "add", keep=["y"])
    client.infer(2, "add", keep=["y"])
    client.infer(3, "add", a="1.y", b="2.y", keep=["y"])
    assert world.starts() == [1]
    world.end(1)
    assert world.starts() == [2]
    second = done(world, world.running.pop(2))
    third = world.core.follower(second.ended)
    assert third is not None
    assert len(world.core.ended_in_place([second, done(world, third)])) == 2
    assert client.receives() == ["done 1", "done 2", "done 3"]


def test_an_output_without_holders_is_not_kept_by_a_follower() -> None:
    world = Scenario()
    client, run = chained(world, steps=2)
    client.release(2)
    ends = in_place(world, run)
    assert [end.ended.run.parts[0].keep for end in ends] == [(0,), ()]
    world.core.ended_in_place(ends)
    assert world.core.accounts.keep.used == 0


def twice(client: Client) -> None:
    client.infer(2, x="1.y")
    client.infer(3, x="1.y")


def something_else_too(client: Client) -> None:
    client.infer(9, "add", keep=["y"])
    client.infer(2, "add", a="1.y", b="9.y")


def elsewhere(client: Client) -> None:
    client.infer(2, "add", a="1.y")


def a_fetch(client: Client) -> None:
    client.fetch(2, "1.y")


def nothing(client: Client) -> None:
    pass


def a_cancelled_waiter(client: Client) -> None:
    client.infer(2, x="1.y")
    client.cancel(2)


def another_stream(client: Client) -> None:
    client.infer(3)
    client.world.client().infer(4)


def a_priority(client: Client) -> None:
    client.infer(3, priority=1)


@pytest.mark.parametrize(
    "wait",
    [
        twice,
        something_else_too,
        elsewhere,
        a_fetch,
        nothing,
        a_cancelled_waiter,
        another_stream,
        a_priority,
    ],
)
def test_nothing_follows_where_another_ticket_may_come_first(wait: Callable[[Client], None]) -> None:
    world = Scenario(step(), add())
    client = world.client()
    client.infer(1, keep=["y"])
    assert world.starts() == [1]
    wait(client)
    world.starts()
    assert world.core.follower(done(world, world.running[1]).ended) is None


def test_nothing_follows_a_failed_run() -> None:
    world = Scenario()
    _, run = chained(world)
    assert world.core.follower(done(world, run, Internal("the run failed")).ended) is None


def test_queued_tickets_follow_in_their_order() -> None:
    world = Scenario(step(2))
    client = world.client()
    for tag in (1, 2, 3, 4):
        client.infer(tag, keep=["y"])
        client.infer(10 + tag, x=f"take {tag}.y")
    assert world.starts() == [1, 2]
    first, second = done(world, world.running.pop(1)), done(world, world.running.pop(2))
    ends = [first, *in_place(world, second.ended.run)]
    assert [tag_of(end.ended.run) for end in ends] == [1, 2, 3, 4]
    assert len({end.ended.run.slot for end in ends[1:]}) == 1
    assert world.core.ended_in_place(ends) == ends
    assert client.receives() == ["done 1", "done 2", "done 3", "done 4"]
    assert world.starts() == [11, 12]


def test_each_queued_ticket_that_follows_fails_alone() -> None:
    world = Scenario(limits=Limits(keep_bytes=1024))
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, keep=["y"])
    client.infer(3)
    assert world.starts() == [1]
    ends = in_place(world, world.running.pop(1))
    assert [tag_of(end.ended.run) for end in ends] == [1, 2, 3]
    assert world.core.ended_in_place(ends) == [ends[0], ends[2]]
    assert client.receives() == ["done 1", "failed 2 RESOURCE_EXHAUSTED", "done 3"]
    assert world.core.accounts.keep.used == 1024


def test_queued_tickets_stay_in_order_when_their_stream_becomes_backpressured() -> None:
    world = Scenario(limits=Limits(unsent_bytes=16))
    client = world.client()
    for tag in (1, 2, 3, 4):
        client.infer(tag, outputs=["y"])
    assert world.starts() == [1]
    ends = in_place(world, world.running.pop(1))
    assert [tag_of(end.ended.run) for end in ends] == [1, 2, 3, 4]
    assert world.core.ended_in_place(ends) == ends[:2]
    assert world.starts() == []
    assert client.receives() == ["done 1", "done 2"]
    assert world.runs() == [3, 4]
    assert client.receives() == ["done 3", "done 4"]


def test_no_queued_ticket_follows_where_streams_take_turns() -> None:
    world = Scenario()
    alice, bob = world.client(), world.client()
    alice.infer(1)
    alice.infer(2)
    bob.infer(11)
    assert world.starts() == [1]
    first = done(world, world.running.pop(1))
    assert world.core.follower(first.ended) is None
    assert world.core.ended_in_place([first]) == [first]
    assert world.runs() == [11, 2]


def test_no_ticket_of_a_backpressured_stream_follows() -> None:
    world = Scenario(limits=Limits(unsent_bytes=8))
    alice, bob = world.client(), world.client()
    alice.infer(1, outputs=["y"])
    assert world.runs() == [1]
    alice.infer(2)
    bob.infer(11)
    assert world.starts() == [11]
    first = done(world, world.running.pop(11))
    assert world.core.follower(first.ended) is None
    assert world.core.ended_in_place([first]) == [first]
    assert world.starts() == []
    assert alice.receives() == ["done 1"]
    assert world.runs() == [2]


def test_a_queued_ticket_that_was_not_run_in_place_is_queued_as_before() -> None:
    world = Scenario()
    client = world.client()
    for tag in (1, 2, 3):
        client.infer(tag)
    assert world.starts() == [1]
    first = done(world, world.running.pop(1))
    assert tag_of(world.core.follower(first.ended)) == 2
    # The engine did not do it in place.
    assert world.core.ended_in_place([first]) == [first]
    client.cancel(3)
    assert world.starts() == [2]
    world.end(2)
    assert client.receives() == ["done 1", "failed 3 CANCELLED", "done 2"]


def test_nothing_follows_before_dynamic_shapes_are_checked() -> None:
    world = Scenario(grow())
    client = world.client()
    client.infer(1, "grow", keep=["y"])
    client.infer(2, "grow", x="1.y")
    assert world.starts() == [1]
    assert world.core.follower(done(world, world.running[1]).ended) is None


def test_nothing_follows_where_more_tickets_may_come_to_share_a_run() -> None:
    halves = model("halves", [port(0, "x", None)], [port(0, "y", None)], direct=True, batch=4)
    world = Scenario(halves, many(), limits=Limits(batch_delay=1))
    client = world.client()
    client.infer(1, "halves", keep=["y"])
    client.infer(2, "halves", x="1.y")
    assert world.after(1) == [1]
    assert world.core.follower(done(world, world.running[1]).ended) is None


def test_a_follower_fails_alone_with_the_tickets_that_wait_for_it() -> None:
    world = Scenario()
    client, run = chained(world)
    first = done(world, run)
    second = world.core.follower(first.ended)
    assert second is not None
    assert len(world.core.ended_in_place([first, done(world, second, Internal("the run failed"))])) == 2
    assert client.receives() == [
        "done 1",
        "failed 2 INTERNAL",
        "failed 3 FAILED_PRECONDITION",
        "failed 4 FAILED_PRECONDITION",
    ]
    assert world.core.accounts.keep.used == 0
    assert world.starts() == []


def test_the_result_of_a_follower_that_does_not_fit_the_quota_is_dropped() -> None:
    world = Scenario(limits=Limits(keep_bytes=2048))
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y", keep=["y"])
    client.infer(3, x="2.y", keep=["y"])
    client.infer(4, x="3.y")
    assert world.starts() == [1]
    assert len(world.core.ended_in_place(in_place(world, world.running.pop(1)))) == 2
    assert client.receives() == ["done 1", "done 2", "failed 3 RESOURCE_EXHAUSTED", "failed 4 FAILED_PRECONDITION"]
    assert world.core.accounts.keep.used == 2048
    assert world.starts() == []


def test_a_follower_of_a_stream_that_became_backpressured_runs_later() -> None:
    world = Scenario(limits=Limits(unsent_bytes=8))
    client = world.client()
    client.infer(1, outputs=["y"], keep=["y"])
    client.infer(2, x="1.y", outputs=["y"])
    assert world.starts() == [1]
    assert len(world.core.ended_in_place(in_place(world, world.running.pop(1)))) == 1
    assert world.starts() == []
    assert client.receives() == ["done 1"]
    assert world.starts() == [2]
    world.end(2)
    assert client.receives() == ["done 2"]


def test_the_dropped_result_of_a_follower_is_held_by_nothing() -> None:
    world = Scenario(limits=Limits(unsent_bytes=8))
    client = world.client()
    client.infer(1, outputs=["y"], keep=["y"])
    client.infer(2, x="take 1.y", outputs=["y"], keep=["y"])
    assert world.starts() == [1]
    ends = in_place(world, world.running.pop(1))
    forgotten = [weakref.ref(tensor) for tensor in (*ends[1].ended.kept[0], *ends[1].ended.sent[0])]
    assert len(world.core.ended_in_place(ends)) == 1
    ends.clear()
    gc.collect()
    assert [each() for each in forgotten] == [None, None]
    client.cancel(2)
    assert client.receives() == ["done 1", "failed 2 CANCELLED"]
    assert world.core.accounts.keep.used == 0


def test_nothing_follows_while_a_ticket_of_another_model_waits_for_a_decision() -> None:
    world = Scenario(step(), add())
    client, run = chained(world)
    ended = done(world, run).ended
    assert tag_of(world.core.follower(ended)) == 2
    client.infer(9, "add")  # it may have its turn before the follower
    assert world.core.follower(ended) is None
    assert world.starts() == [9]
