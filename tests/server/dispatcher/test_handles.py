"""What a service waits for on the handle of its stream."""

from __future__ import annotations

import asyncio
import logging

import pytest

from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.dispatcher.dispatcher import POLL_SECONDS, Dispatcher
from headrace.server.engine.fake import FakeEngine, Script
from headrace.wire.errors import Internal
from tests.server.dispatcher.in_place_engine import SPEC, InPlaceEngine, dispatcher_over, tell
from tests.server.dispatcher.waiting import wait_for_events, wait_until_readable


async def test_reading_pauses_while_too_many_events_are_not_handed_off() -> None:
    dispatcher = dispatcher_over(InPlaceEngine(0.0))
    handle = dispatcher.open(unary=True, window=2)
    for _ in range(4):
        dispatcher.core.reject(handle.stream, Internal("an event"))
    reader = asyncio.create_task(wait_until_readable(handle))
    await asyncio.sleep(0.01)
    assert not reader.done()
    handle.handed_off(handle.take())
    await asyncio.wait_for(reader, 30)
    dispatcher.close()


async def test_closing_a_handle_wakes_its_reader_and_its_writer() -> None:
    dispatcher = dispatcher_over(InPlaceEngine(0.0))
    handle, full = dispatcher.open(unary=True, window=2), dispatcher.open(unary=True, window=2)
    for _ in range(4):
        dispatcher.core.reject(full.stream, Internal("an event"))
    writer, reader = asyncio.create_task(wait_for_events(handle)), asyncio.create_task(wait_until_readable(full))
    await asyncio.sleep(0)
    handle.close()
    full.close()
    assert await asyncio.wait_for(writer, 30) is False
    await asyncio.wait_for(reader, 30)
    dispatcher.close()


async def test_a_run_that_fails_because_it_was_stopped_is_not_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    engine.add(SPEC, lambda inputs: {"y": inputs["x"]}, Script(held=True))
    core = Core(Limits())
    core.models.add(SPEC)
    dispatcher = Dispatcher(core, engine)
    handle = dispatcher.open(unary=True, window=2)
    tell(dispatcher, handle, 1)
    dispatcher.act()
    (run,) = engine.running
    dispatcher.tell(lambda core, now: core.cancel(handle.stream, 1, now))
    for _ in range(50):
        if dispatcher.waits_for_clients():
            break
        await asyncio.sleep(POLL_SECONDS)
    assert run not in engine.running
    assert dispatcher.waits_for_clients()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    dispatcher.close()
