"""A slot that a failed run has spoiled gets no run before it is restored."""

from __future__ import annotations

import pytest

from headrace.server.core.engine_api import End, Ended
from headrace.server.core.limits import Limits
from headrace.server.core.transitions import SlotState
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, outputs_of, step
from tests.server.core.scenario import Scenario, infer_many

FAILED = Internal("the server failed")


def slots(world: Scenario, name: str = "step") -> list[SlotState]:
    return world.core.models.find(name).slots


def test_a_ticket_fails_at_once_and_the_next_waits_until_its_slot_is_restored() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2)
    assert world.starts() == [1]
    world.end(1, FAILED, restoring=True)
    assert client.receives() == ["failed 1 INTERNAL"]
    assert slots(world) == [SlotState.RESTORING]
    assert world.starts() == []
    world.core.slot_restored(world.specs["step"], 0)
    assert world.starts() == [2]
    world.end(2)
    assert client.receives() == ["done 2"]
    assert world.core.models.find("step").restorations == 1


def test_tickets_go_to_other_slots_while_one_is_restored() -> None:
    world = Scenario(slots=2)
    client = world.client()
    for tag in range(1, 6):
        client.infer(tag)
    assert world.starts() == [1, 2]
    world.end(1, FAILED, restoring=True)
    assert world.starts() == []
    for tag in (2, 3, 4):
        world.end(tag)
        assert world.starts() == [tag + 1]
    assert slots(world).count(SlotState.RESTORING) == 1


def test_a_stopped_run_may_spoil_its_slot_too() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2)
    assert world.starts() == [1]
    client.cancel(1)
    assert world.starts() == []
    assert world.stopping == [1]
    world.end(1, FAILED, restoring=True)
    assert slots(world) == [SlotState.RESTORING]
    assert world.starts() == []
    world.core.slot_restored(world.specs["step"], 0)
    assert world.starts() == [2]


def test_a_ticket_that_waits_for_a_slot_to_be_restored_ends_by_its_deadline() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2, timeout=1)
    assert world.starts() == [1]
    world.end(1, FAILED, restoring=True)
    assert world.after(2) == []
    assert client.receives() == ["failed 1 INTERNAL", "failed 2 DEADLINE_EXCEEDED"]


def test_the_tickets_of_a_batch_that_spoiled_its_slot_run_again_in_other_slots() -> None:
    world = Scenario(many(slots=2, direct=False))
    client = world.client()
    infer_many(client, 1, 2, 3, 4)
    world.starts()
    assert world.batches == [[1, 2], [3, 4]]
    world.end(1, FAILED, restoring=True)
    assert world.starts() == []
    world.end(3)
    assert world.starts() == [1]
    world.end(1)
    assert world.starts() == [2]


def test_a_follower_that_failed_has_spoiled_the_slot_of_the_run_before_it() -> None:
    world = Scenario()
    client = world.client()
    for tag in (1, 2, 3):
        client.infer(tag)
    (first,) = world.decide().starts
    ended = Ended(first, [[]], [[]])
    second = world.core.follower(ended)
    assert second is not None
    counted = world.core.ended_in_place(
        [End(ended, None, world.now), End(Ended(second, error=FAILED, restoring=True), FAILED, world.now)]
    )
    assert len(counted) == 2
    assert slots(world) == [SlotState.RESTORING]
    assert world.starts() == []


def test_a_follower_that_may_not_start_has_spoiled_the_slot_all_the_same() -> None:
    world = Scenario(limits=Limits(unsent_bytes=8))
    client = world.client()
    client.infer(1, outputs=["y"], keep=["y"])
    client.infer(2, x="1.y", outputs=["y"])
    (first,) = world.decide().starts
    results = [outputs_of(part) for part in first.parts]
    ended = Ended(first, [sent for sent, _ in results], [kept for _, kept in results])
    second = world.core.follower(ended)
    assert second is not None
    spoiled = Ended(second, error=FAILED, restoring=True)
    # The outputs of the first one are too many bytes, so that the second one may not start yet.
    assert len(world.core.ended_in_place([End(ended, None, world.now), End(spoiled, FAILED, world.now)])) == 1
    assert slots(world) == [SlotState.RESTORING]
    assert client.receives() == ["done 1"]
    assert world.starts() == []
    world.core.slot_restored(world.specs["step"], 0)
    assert world.starts() == [2]


def test_the_slot_of_a_model_that_was_retired_is_restored_too() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2)
    assert world.starts() == [1]
    old = world.specs["step"]
    world.core.models.add(step())
    world.end(1, FAILED, restoring=True)
    assert world.starts() == []
    world.core.slot_restored(old, 0)
    assert world.starts() == [2]
    world.end(2)
    world.starts()
    assert world.unloaded == [old]
    world.core.slot_restored(old, 0)  # it is gone, and this is harmless


def test_a_slot_that_is_not_being_restored_cannot_be_restored() -> None:
    world = Scenario()
    with pytest.raises(AssertionError, match="is not being restored"):
        world.core.slot_restored(world.specs["step"], 0)
