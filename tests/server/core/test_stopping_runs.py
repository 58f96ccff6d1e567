"""A run is stopped when no ticket wants its result any more, and no other run is: slots are used again at once."""

from __future__ import annotations

import gc

import pytest

from headrace.server.core.engine_api import Ended, Run
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SlotState
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Scenario


def decide(world: Scenario) -> tuple[list[Run], list[Run]]:
    """What is started and what is stopped."""
    decision = world.core.decide(world.now)
    return [*decision.starts], [*decision.stops]


def slots(world: Scenario, name: str = "step") -> list[SlotState]:
    return world.core.models.find(name).slots


def test_a_run_is_stopped_once() -> None:
    world = Scenario(step())
    client = world.client()
    client.infer(1)
    (run,), stops = decide(world)
    assert stops == []
    client.cancel(1)
    assert decide(world) == ([], [run])
    client.cancel(1)
    client.vanish()
    assert decide(world) == ([], [])
    assert slots(world) == [SlotState.STOPPING]


def test_a_run_that_ends_before_it_could_be_stopped_is_not_stopped() -> None:
    """Nor is the next run in its slot, which a stop of the slot would hit."""
    world = Scenario(step())
    client = world.client()
    client.infer(1)
    client.infer(2)
    (first,), _ = decide(world)
    client.cancel(1)
    world.core.run_ended(Ended(first), None, world.now)
    (second,), stops = decide(world)
    assert stops == []
    assert (second.slot, slots(world)) == (first.slot, [SlotState.RUNNING])
    assert decide(world) == ([], [])
    client.cancel(2)
    assert decide(world) == ([], [second])
    assert client.receives() == ["failed 1 CANCELLED", "failed 2 CANCELLED"]


def test_a_run_that_fails_before_it_could_be_stopped_is_not_stopped() -> None:
    world = Scenario(step())
    client = world.client()
    client.infer(1)
    client.infer(2)
    (first,), _ = decide(world)
    client.cancel(1)
    error = Internal("it failed")
    world.core.run_ended(Ended(first, error=error), error, world.now)
    (second,), stops = decide(world)
    assert (second.slot, stops) == (first.slot, [])
    assert client.receives() == ["failed 1 CANCELLED"]


def test_a_batch_that_ends_before_it_could_be_stopped_is_not_stopped() -> None:
    world = Scenario(many())
    client = world.client()
    for tag in (1, 2):
        client.infer(tag, "many", x=(1,))
    (batch,), _ = decide(world)
    client.infer(3, "many", x=(1,))
    client.cancel(1)
    client.cancel(2)
    error = Internal("it failed")
    world.core.run_ended(Ended(batch, error=error), error, world.now)
    (second,), stops = decide(world)
    assert [part.rows for part in second.parts] == [1]
    assert (second.slot, stops, slots(world, "many")) == (batch.slot, [], [SlotState.RUNNING])


def test_only_the_run_without_a_ticket_that_wants_it_is_stopped() -> None:
    world = Scenario(step(slots=3))
    clients = [world.client() for _ in range(3)]
    for tag, client in enumerate(clients, 1):
        client.infer(tag)
    runs, _ = decide(world)
    clients[1].vanish()
    assert decide(world) == ([], [runs[1]])
    states = {run.slot: slots(world)[run.slot] for run in runs}
    assert [states[run.slot] for run in runs] == [SlotState.RUNNING, SlotState.STOPPING, SlotState.RUNNING]


@pytest.mark.parametrize("vanishes", [False, True])
@pytest.mark.parametrize("tags", [(1,), (1, 2)])
def test_a_ticket_that_ended_before_its_run_is_gone_when_the_runtime_lets_go(
    tags: tuple[int, ...], vanishes: bool
) -> None:
    gc.collect()
    gc.disable()
    try:
        world = Scenario(many())
        client = world.client(ordered=True)
        for tag in tags:
            client.infer(tag, "many", x=(1,), keep=["y"])
        assert world.starts() == [*tags]
        if vanishes:
            client.vanish()
        else:
            for tag in tags:
                client.cancel(tag)
            assert client.receives() == [f"failed {tag} CANCELLED" for tag in tags]
            client.events.clear()
        assert world.starts() == []
        world.end(1, Internal("it was stopped"))
        assert [each for each in gc.get_objects() if isinstance(each, Ticket)] == []
    finally:
        gc.enable()
