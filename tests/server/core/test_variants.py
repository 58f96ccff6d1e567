"""Calls that ask for some outputs are bound to a variant that computes only these; nothing else changes for clients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.demand import MIN_RUNS, MIN_SECONDS
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.wire.errors import HeadraceError, Internal, InvalidArgument, ResourceExhausted, Unavailable
from tests.server.core.model_specs import add, model, port
from tests.server.core.scenario import Scenario, batches


def three(slots: int = 1, *, batch: int = 1) -> ModelSpec:
    """x: f32[4] -> a, b, c: f32[4]; with batches f32[?,4]."""
    sizes = (None, 4) if batch > 1 else (4,)
    outputs = [port(index, names, *sizes) for index, names in enumerate(("a|alpha", "b", "c"))]
    return replace(model("three", [port(0, "x", *sizes)], outputs, slots=slots, batch=batch), prunes=True)


def pruned(spec: ModelSpec, *outputs: int, batch: int = 0) -> ModelSpec:
    ports = tuple(spec.outputs[index] for index in outputs)
    return replace(spec, outputs=ports, prunes=False, pruned_to=outputs, batch=batch or spec.batch)


class World(Scenario):
    """A model `three` with variants, and `add`."""

    def __init__(self, *variants: tuple[int, ...], slots: int = 1, batch: int = 1) -> None:
        self.full = three(slots, batch=batch)
        super().__init__(self.full, add())
        for outputs in variants:
            self.add_variant(*outputs)

    @property
    def queue(self) -> ModelQueue[Ticket]:
        return self.core.models.find("three")

    def add_variant(self, *outputs: int) -> ModelSpec:
        spec = pruned(self.full, *outputs)
        self.core.models.add_variant(self.queue, spec)
        return spec

    def outputs_of(self, tag: int) -> list[str]:
        """The outputs that the run of a ticket computes."""
        return [each.name for each in self.running[tag].spec.outputs]


def test_a_call_is_bound_to_the_variant_that_computes_the_least() -> None:
    world = World((0, 1), (0,), slots=9)
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    client.infer(2, "three", outputs=["alpha"])
    client.infer(3, "three", outputs=["b", "a"])
    client.infer(4, "three", outputs=["b"])
    client.infer(5, "three", outputs=["c"])
    client.infer(6, "three", all_outputs=True)
    client.infer(7, "three")
    assert sorted(world.starts()) == [1, 2, 3, 4, 5, 6, 7]
    computed = {tag: "".join(world.outputs_of(tag)) for tag in range(1, 8)}
    assert computed == {1: "a", 2: "a", 3: "ab", 4: "ab", 5: "abc", 6: "abc", 7: "abc"}


def test_kept_outputs_count_as_those_that_are_sent() -> None:
    world = World((0, 1), slots=9)
    client = world.client()
    client.infer(1, "three", outputs=["a"], keep=["b"])
    client.infer(2, "three", outputs=["a"], keep=["c"])
    client.infer(3, "three", keep=["b"], keep_inputs=["x"])
    world.starts()
    assert [len(world.outputs_of(tag)) for tag in (1, 2, 3)] == [2, 3, 2]
    for tag in (1, 2, 3):
        world.end(tag)
    assert sorted(client.receives()) == ["done 1", "done 2", "done 3"]
    client.infer(4, "add", a="1.b", b="3.x")
    client.infer(5, "three", outputs=["a"], x="2.c")
    client.fetch(6, "3.b")
    assert sorted(world.runs()) == [4, 5]
    assert sorted(client.receives()) == ["done 4", "done 5", "fetched 6"]


def test_the_events_of_a_variant_name_the_same_outputs_in_the_order_of_the_call() -> None:
    world = World((0, 2))
    client = world.client()
    client.infer(1, "three", outputs=["c", "a"], keep=["a"])
    world.runs()
    assert client.receives() == ["done 1"]
    done = client.events[1]
    assert [each.name for each in done.plan.outputs] == ["c", "a"]  # type: ignore[union-attr]  # it is a Done
    assert done.plan.spec.version == world.full.version  # type: ignore[union-attr]


@pytest.mark.parametrize("variants", [(), ((0,), (0, 1))])
def test_what_is_wrong_with_a_call_is_told_as_without_variants(variants: tuple[tuple[int, ...], ...]) -> None:
    world = World(*variants)
    client = world.client()
    client.infer(1, "three", outputs=["a", "nothing"])
    client.infer(2, "three", outputs=["a", "alpha"])
    client.infer(3, "three", outputs=["a"], x=(5,))
    client.infer(4, "three", outputs=["a"], tensors=[b"1234"])
    client.infer(5, "three", outputs=["a"], keep=["a", "a"])
    client.infer(6, "three", outputs=["a"], keep=["a"])
    assert world.runs() == [6]
    client.infer(7, "add", a="6.a", b="6.c")
    client.infer(8, "add", a="6.a", b="6.nothing")
    client.fetch(9, "6.b")
    assert world.runs() == []
    client.receives()
    assert {tag: error.message for tag, error in client.errors.items()} == {
        1: "model 'three' has no output 'nothing'; it has 'a', 'b', 'c'",
        2: "output 'alpha' is named twice in outputs",
        3: "input 'x' has shape [5]; the model takes FP32[4]",
        4: "input 'x' has 4 bytes, FP32[4] takes 16",
        5: "output 'a' is named twice in keep",
        7: "output 'c' of ticket 6 was not named in keep",
        8: "output 'nothing' of ticket 6: model 'three' has no output 'nothing'; it has 'a', 'b', 'c'",
        9: "output 'b' of ticket 6 was not named in keep",
    }


def test_tickets_finish_where_they_are_when_variants_come_and_go() -> None:
    world = World()
    client = world.client()
    for tag in (1, 2):
        client.infer(tag, "three", outputs=["a"])
    spec = world.add_variant(0)
    for tag in (3, 4):
        client.infer(tag, "three", outputs=["a"])
    assert sorted(world.starts()) == [1, 3]
    assert world.outputs_of(1) == ["a", "b", "c"]
    assert world.outputs_of(3) == ["a"]
    world.core.models.remove_variant(world.queue, world.queue.variants[0])
    client.infer(5, "three", outputs=["a"])
    world.end(3)
    assert world.starts() == [4]
    assert world.unloaded == []
    world.end(4)
    world.settled()
    assert world.unloaded == [spec]
    world.end(1)
    assert world.runs() == [2, 5]
    assert sorted(client.receives()) == [f"done {tag}" for tag in range(1, 6)]


def test_a_waiting_ticket_keeps_the_variant_that_it_was_bound_to() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "add", keep=["y"])
    client.infer(2, "three", outputs=["a"], x="1.y")
    world.core.models.remove_variant(world.queue, world.queue.variants[0])
    assert world.starts() == [1]
    world.end(1)
    assert world.starts() == [2]
    assert world.outputs_of(2) == ["a"]
    assert world.unloaded == []
    world.end(2)
    world.settled()
    assert [each.pruned_to for each in world.unloaded] == [(0,)]


@pytest.mark.parametrize("reload", [True, False])
def test_variants_go_with_their_model(reload: bool) -> None:
    world = World((0,), (1,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    world.starts()
    if reload:
        world.core.models.add(three())
    else:
        world.core.models.remove("three", "1", "has been unloaded")
    world.settled()
    assert [each.pruned_to for each in world.unloaded] == [(1,), ()]  # no ticket needs these
    world.end(1)
    world.settled()
    assert [each.pruned_to for each in world.unloaded] == [(1,), (), (0,)]
    assert client.receives() == ["done 1"]
    client.infer(2, "three", outputs=["a"])
    if reload:
        assert world.starts() == [2]
        assert world.outputs_of(2) == ["a", "b", "c"]
    else:
        assert client.receives() == ["failed 2 UNAVAILABLE"]


def test_only_tickets_of_the_same_variant_share_a_run() -> None:
    world = World((0,), batch=4)
    client = world.client()
    for tag, outputs in enumerate((["a"], ["b"], ["a"], ["a", "c"], ["a"], ["b"]), 1):
        client.infer(tag, "three", outputs=outputs, x=(1, 4))
    assert sorted(map(sorted, batches(world))) == [[1, 3, 5], [2, 4, 6]]


def test_a_batch_that_fails_runs_again_one_by_one_in_the_variant() -> None:
    world = World((0,), batch=4)
    client = world.client()
    for tag in (1, 2):
        client.infer(tag, "three", outputs=["a"], x=(1, 4))
    assert world.starts() == [1, 2]
    world.end(1, Internal("the batch failed"))
    assert world.starts() == [1]
    assert world.outputs_of(1) == ["a"]
    world.end(1)
    assert world.starts() == [2]
    world.end(2)
    assert client.receives() == ["done 1", "done 2"]


@pytest.mark.parametrize("error", [Internal("no"), Unavailable("it could not be restored")])
def test_what_fails_in_a_variant_runs_in_the_model_and_what_succeeds_there_ends_the_variant(
    error: HeadraceError,
) -> None:
    world = World((0,), (0, 1), slots=2)
    client = world.client()
    client.infer(1, "three", outputs=["a"], keep=["a"])
    client.infer(2, "three", outputs=["b"], x="1.a")
    assert world.starts() == [1]
    variant = world.queue.variants[0].spec
    world.end(1, error)
    assert world.starts() == [1]
    assert world.outputs_of(1) == ["a", "b", "c"]
    world.end(1)
    assert world.runs() == [2]
    assert sorted(client.receives()) == ["done 1", "done 2"]
    world.settled()
    assert world.unloaded == [variant]
    assert [each.spec.pruned_to for each in world.queue.variants] == [(0, 1)]
    assert world.core.models.doubted == [variant]
    client.infer(3, "three", outputs=["a"])
    assert world.starts() == [3]
    assert world.outputs_of(3) == ["a", "b"]


def test_what_fails_in_the_model_too_fails_and_the_variant_stays() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"], keep=["a"])
    client.infer(2, "add", a="1.a")
    world.starts()
    world.end(1, Internal("in the variant"), restoring=True)
    assert world.starts() == [1]
    world.end(1, Internal("in the model"))
    assert world.runs() == []
    assert sorted(client.receives()) == ["failed 1 INTERNAL", "failed 2 FAILED_PRECONDITION"]
    assert client.errors[1].message == "in the model"
    assert len(world.queue.variants) == 1
    assert world.queue.statistics.fail[0] == 1


@pytest.mark.parametrize("error", [ResourceExhausted("too little memory"), InvalidArgument("no image")])
def test_a_failure_that_has_nothing_to_do_with_the_variant_is_final(error: HeadraceError) -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    world.starts()
    world.end(1, error)
    assert world.starts() == []
    assert client.receives() == [f"failed 1 {error.code.name}"]
    assert len(world.queue.variants) == 1


def test_a_ticket_that_has_ended_does_not_run_again() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    world.starts()
    client.cancel(1)
    world.settled()
    world.end(1, Internal("stopped"))
    world.settled()
    assert client.receives() == ["failed 1 CANCELLED"]


def test_without_its_model_a_variant_fails_for_itself() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    world.starts()
    world.core.models.remove("three", "1", "has been unloaded")
    world.settled()
    world.end(1, Internal("no"))
    world.settled()
    assert client.receives() == ["failed 1 INTERNAL"]
    assert len(world.unloaded) == 2


def test_a_ticket_runs_in_a_model_that_was_retired_as_long_as_that_is_there() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    client.infer(2, "three", outputs=["b"])
    assert sorted(world.starts()) == [1, 2]
    world.core.models.remove("three", "1", "has been unloaded")
    world.end(1, Internal("no"))
    world.settled()
    assert [each.pruned_to for each in world.unloaded] == [(0,)]
    world.end(2)
    assert world.runs() == [1]
    assert sorted(client.receives()) == ["done 1", "done 2"]
    world.settled()
    assert [each.pruned_to for each in world.unloaded] == [(0,), ()]


def test_a_variant_and_its_model_are_stopped_and_restored_each_in_its_own_slots() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    client.infer(2, "three", outputs=["b"])
    assert sorted(world.starts()) == [1, 2]
    variant = world.queue.variants[0]
    client.cancel(1)
    world.settled()
    assert world.stopping == [1]
    world.end(1, Internal("stopped"), restoring=True)
    client.infer(3, "three", outputs=["a"])
    world.settled()
    world.core.slot_restored(variant.spec, 0)
    assert world.starts() == [3]
    assert (variant.restorations, world.queue.restorations) == (1, 0)


def test_the_statistics_of_a_model_count_the_runs_of_its_variants() -> None:
    world = World((0,))
    client = world.client()
    client.infer(1, "three", outputs=["a"])
    client.infer(2, "three", outputs=["b"])
    client.infer(3, "three", outputs=["a"], timeout=1)
    world.runs()
    queue = world.queue
    assert queue.statistics.inferences == queue.statistics.executions == 3
    assert (queue.executions, queue.variants[0].executions) == (1, 2)


def test_runs_of_a_model_are_counted_by_what_is_asked_and_those_of_variants_are_not() -> None:
    world = World()
    client = world.client()
    demand = world.queue.demand
    assert demand is not None

    def run(first: int) -> None:
        for tag in range(first, first + MIN_RUNS):
            client.infer(tag, "three", outputs=["b"], keep=["a"])
            world.starts()
            world.end(tag, times=(0, 2 * MIN_SECONDS / MIN_RUNS, 0))

    run(1)
    assert demand.wanted(world.now) == (0, 1)
    demand.answered((0, 1), refused=False)
    world.add_variant(0, 1)
    run(100)
    assert demand.wanted(world.now) is None


def test_a_model_that_is_not_pruned_counts_nothing() -> None:
    world = Scenario(replace(three(), prunes=False))
    assert world.core.models.find("three").demand is None
