"""Variants are made for what clients ask for again and again: one at a time, few, and none that is in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.server.core.core import Core
from headrace.server.core.demand import MIN_RUNS, MIN_SECONDS
from headrace.server.core.limits import Limits
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine
from headrace.server.lifecycle.pruning import MAX_VARIANTS, PAUSE_SECONDS, UNUSED_LOOKS, Pruning
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, Unavailable
from tests.server.core.model_specs import model, port
from tests.server.core.test_variants import pruned

NAMED = NamedModel("m", "1", Path("/secret/m.xml"))


class House:
    """A model `m` of five outputs. Loading a variant waits for `gate`, which is open, and then fails with `error`."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.core = Core(limits or Limits())
        self.engine = FakeEngine()
        self.dispatcher = Dispatcher(self.core, self.engine)
        self.now = 0.0
        self.loaded: list[tuple[int, ...]] = []
        self.error: Exception | None = None
        self.room: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        outputs = [port(index, name, 4) for index, name in enumerate("abcde")]
        self.spec = self.add(replace(model("m", [port(0, "x", 4)], outputs), prunes=True, memory_bytes=100))
        self.pruning = Pruning(
            self._load,
            self.core,
            self.dispatcher.tell,
            lambda: self.now,
            lambda spec: NAMED if spec is self.spec else None,
            lambda nbytes: self.room is None or nbytes <= self.room,
        )

    def add(self, spec: ModelSpec) -> ModelSpec:
        self.engine.add(spec, lambda inputs: {each.name: inputs["x"] for each in spec.outputs})
        self.core.models.add(spec)
        return spec

    def _load(self, named: NamedModel, spec: ModelSpec, outputs: Sequence[int]) -> ModelSpec:
        assert named is NAMED
        assert self.gate.wait(10)
        self.loaded.append(tuple(outputs))
        if self.error is not None:
            raise self.error
        variant = pruned(spec, *outputs)
        self.engine.add(variant, lambda inputs: {each.name: inputs["x"] for each in variant.outputs})
        return variant

    @property
    def queue(self) -> ModelQueue[Ticket]:
        return self.core.models.find("m")

    @property
    def variants(self) -> list[tuple[int, ...]]:
        return [each.spec.pruned_to for each in self.queue.variants]

    def ask(self, *outputs: int) -> None:
        """These outputs are asked for again and again."""
        demand = self.queue.demand
        assert demand is not None
        for _ in range(MIN_RUNS):
            demand.ran(frozenset(outputs), 2 * MIN_SECONDS / MIN_RUNS)

    async def looks(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1
            await self.pruning.look()

    async def behind_the_gate(self) -> asyncio.Task[None]:
        """A look that makes a variant, which waits for the gate."""
        self.gate.clear()
        task = asyncio.create_task(self.pruning.look())
        await asyncio.sleep(0)
        assert self.pruning.loading
        return task


async def test_what_is_asked_for_again_and_again_gets_a_variant() -> None:
    house = House()
    await house.looks()
    assert house.loaded == []
    house.ask(0, 2)
    await house.looks(3)
    assert house.loaded == house.variants == [(0, 2)]


async def test_variants_are_few() -> None:
    house = House()
    for output in range(5):
        house.ask(output)
        await house.looks(2)
    assert house.variants == [(0,), (1,)]
    assert len(house.variants) == MAX_VARIANTS


async def test_one_that_nobody_uses_makes_place_for_another() -> None:
    house = House()
    house.ask(0)
    await house.looks(2)
    house.ask(1)
    await house.looks(2)
    used = house.queue.variants[1]
    for _ in range(UNUSED_LOOKS):
        used.executions += 1
        house.ask(2)
        await house.looks()
    used.executions += 1
    await house.looks(2)
    assert house.variants == [(1,), (2,)]
    assert len(house.engine._models) == 1 + MAX_VARIANTS  # the other one is freed


async def test_a_refused_variant_is_told_once_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house = House()
    house.error = FailedPrecondition("it saves 4% of a run")
    for _ in range(3):
        house.ask(1, 3)
        await house.looks(2)
    assert house.loaded == [(1, 3)]
    assert [each.message for each in caplog.records] == [
        "model 'm' version 1 is not pruned to 'b', 'd': it saves 4% of a run"
    ]


async def test_what_gave_way_is_tried_again_when_it_is_asked_for_again() -> None:
    house = House()
    house.error = Unavailable("another model is to be loaded, which comes first")
    house.ask(0)
    await house.looks(3)
    assert house.loaded == [(0,)]
    house.error = None
    house.ask(0)
    await house.looks()
    assert house.variants == [(0,)]


async def test_an_unexpected_error_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.error = ZeroDivisionError("no")
    house.ask(0)
    await house.looks(2)
    assert not house.pruning.loading
    assert [each.exc_info is not None for each in caplog.records] == [True]
    house.error = None
    house.ask(1)
    await house.looks()
    assert house.variants == [(1,)]


@pytest.mark.parametrize("reload", [True, False])
async def test_a_model_that_goes_meanwhile_gets_no_variant_and_nothing_stays(reload: bool) -> None:
    house = House()
    house.ask(0)
    making = await house.behind_the_gate()
    if reload:
        again = house.add(replace(house.spec))
    else:
        house.core.models.remove("m", "1", "has been unloaded")
    house.dispatcher.act()
    house.gate.set()
    await making
    assert house.loaded == [(0,)]
    assert [each[0] for each in house.engine._models.values()] == ([again] if reload else [])
    assert not reload or house.variants == []


async def test_no_variant_is_made_without_room_for_it() -> None:
    house = House()
    house.room = 99
    house.ask(0)
    await house.looks(3)
    assert house.loaded == []
    house.room = 100
    await house.looks()
    assert house.variants == [(0,)]


async def test_all_are_dropped_when_memory_is_short_and_none_is_made_for_a_while() -> None:
    house = House()
    house.ask(0)
    await house.looks(2)
    assert house.pruning.drop() == 1
    assert house.pruning.drop() == 0
    assert house.variants == []
    assert len(house.engine._models) == 1
    house.ask(0)
    await house.looks()
    assert house.loaded == [(0,)]
    house.now += PAUSE_SECONDS
    house.ask(0)
    await house.looks()
    assert house.variants == [(0,)]


async def test_where_models_share_the_processor_there_are_none() -> None:
    house = House(Limits(processors=2))
    house.ask(0)
    await house.looks(2)
    assert house.loaded == []


async def test_a_draining_server_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.server.lifecycle.pruning.LOOK_SECONDS", 0.0)
    house = House()
    house.core.drain(0.0)
    house.ask(0)
    running = asyncio.create_task(house.pruning.run())
    await asyncio.sleep(0.05)
    running.cancel()
    assert house.loaded == []


async def test_a_look_that_is_cancelled_still_counts_as_loading() -> None:
    """Nobody may free the runtime while a thread uses it."""
    house = House()
    house.ask(0)
    making = await house.behind_the_gate()
    making.cancel()
    await asyncio.wait([making])
    assert house.pruning.loading
    house.gate.set()


async def test_an_unexpected_error_ends_pruning_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = House()

    def source(_spec: ModelSpec) -> NamedModel:
        raise LookupError("unforeseen")

    pruning = Pruning(house._load, house.core, house.dispatcher.tell, lambda: 0.0, source, lambda _: True)
    house.ask(0)
    await pruning.run()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "no further variants of models are made"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
