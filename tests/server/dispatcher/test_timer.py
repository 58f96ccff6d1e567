"""The dispatcher decides again when something is due, though nothing else happens."""

from __future__ import annotations

import asyncio

from headrace.server.core.core import Core
from headrace.server.core.limits import Limits
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.fake import FakeEngine, Script
from tests.server.dispatcher.in_place_engine import SPEC, tell
from tests.server.dispatcher.waiting import wait_for_events


async def test_an_earlier_deadline_is_kept_although_a_later_one_was_set_before() -> None:
    engine = FakeEngine()
    engine.add(SPEC, lambda inputs: {"y": inputs["x"]}, Script(held=True))
    core = Core(Limits())
    core.models.add(SPEC)
    dispatcher = Dispatcher(core, engine)
    handle = dispatcher.open(unary=True, window=4)
    for tag, timeout in ((1, 60.0), (2, 0.2), (3, 0.1)):
        tell(dispatcher, handle, tag, timeout=timeout)
        dispatcher.act()
    failed: list[int] = []
    async with asyncio.timeout(30):
        while len(failed) < 2 and await wait_for_events(handle):
            failed += [event.tag for event in handle.take()]
    assert failed == [3, 2]
    dispatcher.close()
