"""Models that are unloaded or replaced while tickets use them: tickets finish with the model they were bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.server.core.engine_api import End, Ended
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.core.transitions import SlotState
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, outputs_of
from tests.server.core.scenario import Client, Scenario, infer_many


def unload(world: Scenario, name: str = "step") -> ModelSpec:
    """Take a model away. Returns what was served."""
    spec = world.core.models.find(name).spec
    world.core.models.remove(name, spec.version, "is unloaded")
    return spec


def reload(world: Scenario, name: str = "step") -> tuple[ModelSpec, ModelSpec]:
    """Put another in the place of a model. Returns the old one and the new one."""
    old = world.core.models.find(name).spec
    new = replace(old)
    world.core.models.add(new)
    return old, new


def free(world: Scenario, *specs: ModelSpec) -> bool:
    """Whether these, and no others, were to be freed until now, once each and in this order."""
    assert world.starts() == []
    return [*map(id, world.unloaded)] == [*map(id, specs)]


def nothing_to_do(world: Scenario) -> bool:
    decision = world.settled()
    return not (decision.stops or decision.changed or decision.unload)


class TestUnloading:
    def test_a_model_that_no_ticket_needs_is_unloaded_at_once(self) -> None:
        world = Scenario()
        assert nothing_to_do(world)
        spec = unload(world)
        assert world.settled().unload == [spec]
        assert nothing_to_do(world)
        assert free(world, spec)

    def test_running_and_queued_tickets_finish_before_their_model_is_unloaded(self) -> None:
        world = Scenario()
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag, outputs=["y"])
        assert world.starts() == [1]
        spec = unload(world)
        assert nothing_to_do(world)
        client.infer(4)
        assert client.receives() == ["failed 4 UNAVAILABLE"]
        assert client.errors[4].message == "model 'step' is unloaded"
        for tag in (1, 2, 3):
            assert free(world)
            assert world.running[tag].spec is spec
            world.end(tag)
            assert client.receives() == [f"done {tag}"]
            assert world.starts() == ([tag + 1] if tag < 3 else [])
        assert free(world, spec)
        client.infer(5)
        assert client.receives() == ["failed 5 UNAVAILABLE"]

    def test_tickets_that_wait_for_a_source_finish_before_their_model_is_unloaded(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, "add", a="1.y")
        assert world.starts() == [1]
        spec = unload(world, "add")
        assert free(world)
        world.end(1)
        assert world.starts() == [2]
        assert world.running[2].spec is spec
        assert free(world)
        world.end(2)
        assert client.receives() == ["done 1", "done 2"]
        assert free(world, spec)

    def test_outputs_that_a_model_has_computed_outlive_it(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y", "z"])
        assert world.runs() == [1]
        spec = unload(world)
        assert free(world, spec)
        client.fetch(2, "1.z")
        client.infer(3, "add", a="take 1.y")
        assert world.runs() == [3]
        assert client.receives() == ["done 1", "fetched 2", "done 3"]
        client.infer(4, "add", a="1.y")
        client.infer(5, "add", a="1.nothing")
        assert client.receives() == ["failed 4 FAILED_PRECONDITION", "failed 5 FAILED_PRECONDITION"]
        assert "is not kept any more" in client.errors[4].message
        assert "model 'step' has no output 'nothing'" in client.errors[5].message

    def test_a_ticket_that_was_never_bound_does_not_hold_a_model(self) -> None:
        world = Scenario(limits=Limits(window=2))
        client = world.client()
        client.infer(1, tensors=[b"short"])
        client.infer(2, priority=10)
        client.infer(3)
        spec = unload(world)
        assert free(world, spec)
        assert client.receives() == [
            "failed 1 INVALID_ARGUMENT",
            "failed 2 INVALID_ARGUMENT",
            "failed 3 RESOURCE_EXHAUSTED",
        ]

    def test_a_backpressured_stream_holds_the_model_of_its_queued_tickets(self) -> None:
        world = Scenario(slots=2, limits=Limits(unsent_bytes=24))
        client = world.client()
        for tag in (1, 2, 3, 4):
            client.infer(tag, outputs=["y"])
        assert world.starts() == [1, 2]
        world.end(1)
        world.end(2)
        spec = unload(world)
        assert free(world)
        world.take(client.stream)
        assert world.starts() == [3]
        world.core.flushed(client.stream)
        assert world.starts() == [4]
        world.end(3)
        assert free(world)
        world.end(4)
        assert client.receives() == ["done 3", "done 4"]
        assert free(world, spec)

    def test_a_ticket_of_a_retired_model_may_rise_in_priority(self) -> None:
        world = Scenario()
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag, keep=["y"])
        assert world.starts() == [1]
        spec = unload(world)
        client.infer(4, "add", a="3.y", priority=5)
        world.end(1)
        assert world.runs() == [3, 4, 2]
        assert free(world, spec)


def cancelled(world: Scenario, client: Client) -> None:
    client.cancel(1)


def late(world: Scenario, client: Client) -> None:
    assert world.after(1) == []


def gone(world: Scenario, client: Client) -> None:
    client.vanish()


def stopped(world: Scenario, client: Client) -> None:
    world.core.drain(world.now)
    assert world.after(world.core.limits.grace) == []


@pytest.mark.parametrize("end", [cancelled, late, gone, stopped])
class TestEndsWithoutResult:
    """Tickets that end without a result."""

    def test_queued_tickets_that_end_let_their_model_go(self, end: Callable[[Scenario, Client], None]) -> None:
        world = Scenario()
        other, client = world.client(), world.client()
        other.infer(11)
        assert world.starts() == [11]
        client.infer(1, timeout=1)
        spec = unload(world)
        end(world, client)
        assert free(world)
        world.end(11)
        assert free(world, spec)

    def test_waiting_tickets_that_end_let_their_model_go(self, end: Callable[[Scenario, Client], None]) -> None:
        world = Scenario()
        client = world.client()
        client.infer(2, "add", keep=["y"])
        assert world.starts() == [2]
        client.infer(1, x="2.y", timeout=1)
        spec = unload(world)
        end(world, client)
        assert free(world, spec)

    def test_a_run_that_is_stopped_holds_its_model_until_the_runtime_lets_go(
        self, end: Callable[[Scenario, Client], None]
    ) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, timeout=1)
        model = world.core.models.find("step")
        assert world.starts() == [1]
        spec = unload(world)
        end(world, client)
        assert free(world)
        assert world.stopping == [1]
        assert model.slots == [SlotState.STOPPING]
        world.end(1, Internal("the run was cancelled"))
        assert free(world, spec)


class TestFailures:
    def test_a_failed_run_lets_its_model_go(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="1.y", keep=["y"])
        client.infer(3, x="2.y")
        assert world.starts() == [1]
        spec = unload(world)
        world.end(1, Internal("the run failed"))
        assert client.receives() == [
            "failed 1 INTERNAL",
            "failed 2 FAILED_PRECONDITION",
            "failed 3 FAILED_PRECONDITION",
        ]
        assert free(world, spec)

    def test_tickets_that_fail_for_want_of_quota_let_their_model_go(self) -> None:
        world = Scenario(limits=Limits(keep_bytes=2048))
        client = world.client()
        client.infer(1, keep=["z"])
        client.infer(2, keep=["y", "z"])
        client.infer(3)
        assert world.starts() == [1]
        spec = unload(world)
        world.end(1, z=1000)
        assert world.starts() == [2]
        assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED"]
        client.infer(4, "grow", keep=["y"])
        assert world.starts() == []
        assert client.receives() == ["failed 4 RESOURCE_EXHAUSTED"]
        world.end(2)
        assert world.starts() == [3]
        assert free(world)
        world.end(3)
        assert client.receives() == ["done 2", "done 3"]
        assert free(world, spec)


class TestBatches:
    def test_a_cancelled_ticket_of_a_batch_lets_its_model_go_with_the_batch(self) -> None:
        world = Scenario(many())
        client = world.client()
        infer_many(client, 1, 2)
        assert world.starts() == [1, 2]
        assert world.batches == [[1, 2]]
        spec = unload(world, "many")
        client.cancel(1)
        client.cancel(2)
        assert free(world)
        world.end(1, Internal("the run was cancelled"))
        assert free(world, spec)

    def test_tickets_of_a_failed_batch_hold_their_model_until_each_has_run_again(self) -> None:
        world = Scenario(many())
        client = world.client()
        infer_many(client, 1, 2, 3)
        assert world.starts() == [1, 2, 3]
        spec = unload(world, "many")
        client.cancel(1)
        world.end(1, Internal("the batch failed"))
        assert world.runs() == [2, 3]
        assert client.receives() == ["failed 1 CANCELLED", "done 2", "done 3"]
        assert free(world, spec)

    def test_tickets_that_wait_for_a_batch_hold_their_model(self) -> None:
        world = Scenario(many(), limits=Limits(batch_delay=1))
        client = world.client()
        infer_many(client, 1)
        assert world.starts() == []
        old, _ = reload(world, "many")
        infer_many(client, 2)
        assert free(world)
        assert sorted(world.after(1)) == [1, 2]
        assert sorted(world.batches) == [[1], [2]]
        world.end(1)
        assert free(world, old)


class TestReloading:
    def test_tickets_stay_with_the_model_they_were_bound_to_when_it_is_reloaded(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2)
        client.infer(3, x="1.y")
        assert world.starts() == [1]
        old, new = reload(world)
        for tag in (4, 5):
            client.infer(tag)
        assert world.starts() == [4]
        assert (world.running[1].spec is old, world.running[4].spec is new) == (True, True)
        world.end(4)
        assert world.starts() == [5]
        world.end(1)
        assert world.starts() == [2]
        assert world.running[2].spec is old
        world.end(2)
        assert world.starts() == [3]
        assert world.running[3].spec is old
        assert free(world)
        world.end(3)
        assert free(world, old)
        world.end(5)
        assert client.receives() == ["done 4", "done 1", "done 2", "done 3", "done 5"]
        assert free(world, old)

    def test_a_model_may_be_reloaded_again_and_again(self) -> None:
        world = Scenario()
        client = world.client()
        specs = [world.specs["step"]]
        for tag in (1, 2, 3):
            client.infer(tag)
            assert world.starts() == [tag]
            specs.append(reload(world)[1])
        specs.append(reload(world)[1])
        assert free(world, specs[3])
        for tag in (2, 3, 1):
            assert world.running[tag].spec is specs[tag - 1]
            world.end(tag)
        assert free(world, specs[3], specs[1], specs[2], specs[0])
        client.infer(4)
        assert world.starts() == [4]
        assert world.running[4].spec is specs[4]

    def test_a_model_may_be_loaded_while_its_predecessor_is_being_unloaded(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1)
        assert world.starts() == [1]
        old, new = unload(world), replace(world.specs["step"])
        client.infer(2)
        world.core.models.withhold("step", "is loading")
        client.infer(3)
        world.core.models.add(new)
        client.infer(4)
        assert world.starts() == [4]
        assert world.running[4].spec is new
        assert client.receives() == ["failed 2 UNAVAILABLE", "failed 3 UNAVAILABLE"]
        assert [client.errors[tag].message for tag in (2, 3)] == [
            "model 'step' is unloaded",
            "model 'step' is loading",
        ]
        world.end(1)
        assert free(world, old)

    def test_a_chain_goes_on_with_the_version_each_ticket_was_bound_to(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="take 1.y", keep=["y"])
        assert world.starts() == [1]
        old, new = reload(world)
        client.infer(3, x="take 2.y")
        ends: list[End] = []
        run = world.running.pop(1)
        for _ in range(2):
            sent, kept = outputs_of(run.parts[0])
            ends.append(End(Ended(run, [sent], [kept]), None, world.now))
            following = world.core.follower(ends[-1].ended)
            run = following or run
        assert [end.ended.run.spec is old for end in ends] == [True, True]
        assert following is None
        assert world.core.ended_in_place(ends) == ends
        assert world.starts() == [3]
        assert world.running[3].spec is new
        assert free(world, old)
        assert client.receives() == ["done 1", "done 2"]
