"""Direct runs hold up the event loop for TURN_SECONDS at a stretch, and no stream keeps the others from running."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.core.events import Failed
from headrace.server.dispatcher.dispatcher import TURN_SECONDS, Dispatcher
from headrace.server.dispatcher.handle import StreamHandle
from tests.server.dispatcher.in_place_engine import InPlaceEngine, dispatcher_over, tell

RUN_SECONDS = 0.3 * TURN_SECONDS
RUNS_IN_A_TURN = 4
"""The fourth one begins before the turn is over."""


def without_hello(dispatcher: Dispatcher) -> StreamHandle:
    """A stream that has nothing to say before its first ticket ends."""
    return dispatcher.open(unary=True, window=16)


async def read(handle: StreamHandle, count: int) -> list[int]:
    """The tags of the next events, each frame of which is written at once."""
    tags: list[int] = []
    while len(tags) < count and await handle.wait_for_events():
        events = handle.take()
        handle.handed_off(events)
        handle.flushed()
        tags += [event.tag for event in events if event.admitted]
    return tags


@pytest.mark.parametrize("chained", [False, True], ids=["independent tickets", "a chain"])
async def test_direct_runs_end_their_turn_of_the_loop_and_go_on_in_the_next(chained: bool) -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handle = without_hello(dispatcher)
    for tag in range(1, 11):
        tell(dispatcher, handle, tag, source=tag - 1 if chained else 0)
    dispatcher.act()
    assert engine.tags == [*range(1, RUNS_IN_A_TURN + 1)]
    counts = {len(engine.tags)}
    while len(engine.tags) < 10:
        await asyncio.sleep(0)
        counts.add(len(engine.tags))
    assert counts == {RUNS_IN_A_TURN, 2 * RUNS_IN_A_TURN, 10}
    assert engine.tags == [*range(1, 11)]
    dispatcher.close()


async def test_events_are_written_while_other_direct_runs_have_still_to_happen() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handle = without_hello(dispatcher)
    for tag in range(1, 11):
        tell(dispatcher, handle, tag)

    async def write() -> tuple[list[int], list[int]]:
        """What is written first, and what has run by then."""
        assert await handle.wait_for_events()
        return [event.tag for event in handle.take()], [*engine.tags]

    writer = asyncio.create_task(write())
    await asyncio.sleep(0)
    dispatcher.act()
    first = [*range(1, RUNS_IN_A_TURN + 1)]
    assert await writer == (first, first)
    assert await read(handle, 6) == [*range(RUNS_IN_A_TURN + 1, 11)]
    dispatcher.close()


async def test_a_command_of_another_stream_is_read_between_two_turns_of_direct_runs() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    busy, other = without_hello(dispatcher), without_hello(dispatcher)
    for tag in range(1, 11):
        tell(dispatcher, busy, tag)

    def command() -> None:
        tell(dispatcher, other, 101)
        dispatcher.act()

    asyncio.get_running_loop().call_soon(command)
    dispatcher.act()
    assert await read(other, 1) == [101]
    assert engine.tags.index(101) == RUNS_IN_A_TURN + 1
    assert await read(busy, 10) == [*range(1, 11)]
    dispatcher.close()


async def test_direct_runs_of_two_streams_alternate() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    first, second = without_hello(dispatcher), without_hello(dispatcher)
    for handle, tags in ((first, range(1, 7)), (second, range(11, 17))):
        for tag in tags:
            tell(dispatcher, handle, tag)
    dispatcher.act()
    await read(first, 6)
    await read(second, 6)
    assert engine.tags == [1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16]
    dispatcher.close()


async def test_a_deadline_that_passes_during_the_followers_of_a_run_is_kept() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handle = without_hello(dispatcher)
    for tag in (1, 2, 3, 4):
        tell(dispatcher, handle, tag, timeout=1.5 * RUN_SECONDS if tag == 3 else 0.0)
    dispatcher.act()
    events = [event for event in handle.take() if event.admitted]
    assert engine.tags == [1, 2, 4]
    assert [(event.tag, isinstance(event, Failed)) for event in events] == [
        (1, False),
        (2, False),
        (3, True),
        (4, False),
    ]
    dispatcher.close()
