"""An unexpected exception fails the tickets concerned, with an id for the log, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core
from headrace.server.core.engine_api import Ended, Run
from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import SlotState
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import Arrays, FakeEngine, Script, result_of
from headrace.wire.dtypes import Datatype
from tests.interpreted import interpreted
from tests.server.dispatcher.waiting import wait_for_events

X, Y = (Port(0, (name,), Datatype.FP32, (Dimension(0, -1),)) for name in "xy")
BAD = 13
"""The tag of the ticket at which everything fails."""


class Bug(Exception):
    """An unexpected error."""


def same(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
    return {"y": inputs["x"]}


class World:
    """A dispatch over a model of two slots, and a stream."""

    def __init__(self, script: Script | None = None) -> None:
        self.engine = FakeEngine()
        self.spec = ModelSpec("m", "1", (X,), (Y,), has_variables=False, slots=2)
        self.engine.add(self.spec, same, script or Script())
        self.core = Core(Limits())
        self.core.models.add(self.spec)
        self.dispatcher = Dispatcher(self.core, self.engine)
        self.handle = self.dispatcher.open()
        self.stream = self.handle.stream
        self.core.define(self.stream, 1, Call("m", "", (Inline("x", Datatype.FP32, (1,)),), (), True, ()), 100)

    def ask(self, *tags: int, timeout: float = 0.0) -> None:
        for tag in tags:
            data = [memoryview(bytes(4))]
            charge = self.core.charge(self.stream, 4)
            self.core.infer(self.stream, tag, 1, data, charge, self.dispatcher.now(), timeout=timeout)
        self.dispatcher.act()

    async def told(self, count: int) -> dict[int, Event]:
        """Wait for the terminal events of `count` tickets."""
        events: dict[int, Event] = {}
        async with asyncio.timeout(30):
            while len(events) < count:
                assert await wait_for_events(self.handle)
                taken = self.stream.take()
                events |= {event.tag: event for event in taken if event.admitted}
                self.handle.handed_off(taken)
        return events

    def close(self) -> None:
        (model,) = self.core.models
        assert model.slots == [SlotState.FREE] * 2
        assert self.core.accounts.queue.used == self.core.accounts.keep.used == self.stream.in_flight == 0
        assert self.dispatcher.waits_for_clients()
        self.dispatcher.close()


def raising(real: Callable[..., Any], about: Callable[..., bool]) -> Callable[..., Any]:
    """The same, but it raises for the bad ticket."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if about(*arguments, **named):
            raise Bug
        return real(*arguments, **named)

    return wrapped


def is_bad(run: Run, **_: bool) -> bool:
    return any(isinstance(part, Ticket) and part.tag == BAD for part in run.parts)


CASES: dict[str, Callable[[World], tuple[object, str, Callable[..., bool]]]] = {
    "engine start": lambda world: (world.engine, "start", is_bad),
    "core start": lambda world: (world.core._execution, "_start", lambda tickets, *_: tickets[0].tag == BAD),
    "core end": lambda world: (world.core._execution, "_complete", lambda ticket, *_: ticket.tag == BAD),
}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=interpreted) if name.startswith("core") else name for name in CASES]
)
async def test_only_the_ticket_concerned_fails_with_an_id(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    where, name, about = CASES[case](world)
    monkeypatch.setattr(where, name, raising(getattr(where, name), about))
    tags = range(1, 30)
    world.ask(*tags)
    events = await world.told(len(tags))
    assert {tag for tag, event in events.items() if isinstance(event, Done)} == {*tags} - {BAD}
    failed = events[BAD]
    assert isinstance(failed, Failed)
    (incident,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert failed.error.code.name == "INTERNAL"
    assert incident.getMessage().removeprefix("incident ") in failed.error.message
    world.ask(30)
    assert isinstance((await world.told(1))[30], Done)
    world.close()


async def test_a_run_counts_although_looking_for_its_follower_has_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of runs that are done in place, as here all are."""
    world = World()

    def start(run: Run, **_: bool) -> Ended:
        return result_of(run, same)

    def follow(run: Run) -> Ended | None:
        raise Bug

    monkeypatch.setattr(world.engine, "start", start)
    monkeypatch.setattr(world.engine, "follow", follow)
    world.ask(*range(1, 6))
    events = await world.told(5)
    assert [type(event) for event in events.values()] == [Done] * 5
    assert {type(record.exc_info[1]) for record in caplog.records if record.exc_info} == {Bug}
    world.close()


@interpreted
async def test_a_deadline_that_raises_ends_its_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Script(held=True))
    real = world.core._completion.fail
    calls: list[int] = []

    def fail(ticket: Ticket, *rest: Any) -> None:
        calls.append(ticket.tag)
        if calls == [BAD]:
            raise Bug
        real(ticket, *rest)

    monkeypatch.setattr(world.core._completion, "fail", fail)
    world.ask(BAD, 1, timeout=0.01)
    events = await world.told(2)
    assert [type(event) for event in events.values()] == [Failed, Failed]
    for _ in range(100):
        if world.dispatcher.waits_for_clients():
            break
        await asyncio.sleep(0.01)
    world.close()


@pytest.mark.parametrize("name", ["poll", "collect", "restored", "cancel"])
async def test_an_engine_that_raises_once_is_asked_again(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cancelled run is found by polling, so all of them are needed for it."""
    world = World(Script(polls=4, ignores_cancel=True))
    real = getattr(world.engine, name)
    calls: list[object] = []

    def once(*arguments: object) -> list[Ended]:
        calls.append(arguments)
        if len(calls) == 1:
            raise Bug
        found: list[Ended] = real(*arguments)
        return found

    monkeypatch.setattr(world.engine, name, once)
    world.ask(1, 2, 3)
    world.core.cancel(world.stream, 1, world.dispatcher.now())
    world.dispatcher.act()
    events = await world.told(3)
    assert [type(events[tag]) for tag in (1, 2, 3)] == [Failed, Done, Done]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    world.close()


async def test_a_slot_that_is_restored_while_ends_are_collected_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dispatcher was woken already, so it is not woken again."""
    world = World(Script(held=True, spoils=True))
    world.ask(1)
    (run,) = world.engine.running
    world.engine.fail(run, Bug())
    await world.told(1)
    (model,) = world.core.models
    assert SlotState.RESTORING in model.slots
    real = world.engine.collect

    def collect() -> list[Ended]:
        world.engine.on_ended(lambda: None)
        world.engine.restore(world.spec, run.slot)
        return real()

    monkeypatch.setattr(world.engine, "collect", collect)
    world.dispatcher._collect()
    world.close()
