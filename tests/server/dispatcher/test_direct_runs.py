"""Direct runs hold up the event loop for TURN_SECONDS in each turn, and no stream keeps the others from running."""

from __future__ import annotations

import asyncio

import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Ended, Run
from headrace.server.core.events import Failed
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatcher.dispatcher import TURN_SECONDS, Dispatcher
from headrace.server.dispatcher.handle import StreamHandle
from headrace.wire.dtypes import Datatype
from tests.server.dispatcher.in_place_engine import SPEC, InPlaceEngine, dispatcher_over, tell
from tests.server.dispatcher.waiting import wait_for_events

RUN_SECONDS = 0.3 * TURN_SECONDS
NAMES = ("async", "a", "b", "c", "d")
RUNS_IN_A_TURN = 4
"""The fourth one begins before the turn is over."""


def without_hello(dispatcher: Dispatcher) -> StreamHandle:
    """A stream that has nothing to say before its first ticket ends."""
    return dispatcher.open(unary=True, window=16)


async def read(handle: StreamHandle, count: int) -> list[int]:
    """The tags of the next events, each frame of which is written at once."""
    tags: list[int] = []
    while len(tags) < count and await wait_for_events(handle):
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


async def test_all_streams_that_act_in_a_turn_of_the_loop_share_its_time() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handles = [without_hello(dispatcher) for _ in range(20)]
    for turn in range(1, 4):
        dispatcher.turn_begins()
        for number, handle in enumerate(handles):
            tell(dispatcher, handle, 100 * turn + number)
            dispatcher.act()
        assert len(engine.tags) == turn * RUNS_IN_A_TURN
    dispatcher.close()


async def test_a_turn_that_begins_between_an_act_and_the_one_put_off_is_not_given_its_time_twice() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handle = without_hello(dispatcher)
    for tag in range(1, 13):
        tell(dispatcher, handle, tag)
    dispatcher.act()
    asyncio.get_running_loop().call_soon(dispatcher.turn_begins)
    asyncio.get_running_loop().call_soon(dispatcher.act)
    for _ in range(2):
        await asyncio.sleep(0)
    assert len(engine.tags) == 2 * RUNS_IN_A_TURN
    dispatcher.close()


async def test_no_stream_starves_while_others_use_up_every_turn() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    busy, other = without_hello(dispatcher), without_hello(dispatcher)
    tags = iter(range(1, 1000))
    for _ in range(RUNS_IN_A_TURN + 2):
        tell(dispatcher, busy, next(tags))
    dispatcher.act()
    tell(dispatcher, other, 1001)
    dispatcher.act()
    for _ in range(3):
        dispatcher.turn_begins()
        events = busy.take()
        busy.handed_off(events)
        for _ in events:
            tell(dispatcher, busy, next(tags))
        dispatcher.act()
    assert engine.tags.index(1001) <= RUNS_IN_A_TURN + 1
    dispatcher.close()


async def test_runs_of_other_models_start_when_the_turn_is_used_up() -> None:
    """And those of direct models that were decided on together are handed over once it is."""
    loop_time = asyncio.get_running_loop().time()
    specs = {name: ModelSpec(name, "1", SPEC.inputs, SPEC.outputs, False, 1, direct=name != "async") for name in NAMES}

    class Engine(InPlaceEngine):
        def start(self, run: Run, *, in_place: bool = True) -> Ended | None:
            started.append((run.spec.name, in_place))
            return super().start(run) if in_place and run.spec.direct else None

    started: list[tuple[str, bool]] = []
    engine = Engine(0.6 * TURN_SECONDS)
    core = Core(Limits())
    for spec in specs.values():
        core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    dispatcher.now = engine.now
    handle = without_hello(dispatcher)

    def ask(tag: int, name: str) -> None:
        call = Call(name, "", (Inline("x", Datatype.FP32, (1,)),), (), False, ())
        core.infer(
            handle.stream, tag, DefinedCall(call, 0), [memoryview(bytes(4))], core.charge(handle.stream, 4), loop_time
        )

    dispatcher.turn_begins()
    for tag, name in enumerate(NAMES[1:], 1):
        ask(tag, name)
    dispatcher.act()
    assert [in_place for _, in_place in started] == [True, True, False, False]
    quick = started[0][0]
    started.clear()
    ask(11, "async")
    ask(12, quick)
    dispatcher.act()
    assert [name for name, _ in started] == ["async"]
    dispatcher.turn_begins()
    dispatcher.act()
    assert [name for name, _ in started] == ["async", quick]
    dispatcher.close()


async def test_events_are_written_while_other_direct_runs_have_still_to_happen() -> None:
    engine = InPlaceEngine(RUN_SECONDS)
    dispatcher = dispatcher_over(engine)
    handle = without_hello(dispatcher)
    for tag in range(1, 11):
        tell(dispatcher, handle, tag)

    async def write() -> tuple[list[int], list[int]]:
        """What is written first, and what has run by then."""
        assert await wait_for_events(handle)
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
