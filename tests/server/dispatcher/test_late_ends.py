"""Runs that end late, on a server where nothing else happens: every ticket ends, and so does every run."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy.typing as npt
import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core
from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.core.transitions import SlotState
from headrace.server.dispatcher.dispatcher import POLL_SECONDS, Dispatcher
from headrace.server.dispatcher.handle import StreamHandle
from headrace.server.engine.fake import Arrays, FakeEngine, Script
from headrace.wire.dtypes import Datatype
from tests.server.dispatcher.waiting import wait_for_events

ANY_ROWS = (Dimension(0, -1),)
X, Y = Port(0, ("x",), Datatype.FP32, ANY_ROWS), Port(0, ("y",), Datatype.FP32, ANY_ROWS)
LATE = [0, 1, 2, 5, 25]
"""Polls until the end of a run: up to half a second."""


def same(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
    return {"y": inputs["x"]}


def broken(_: dict[str, npt.NDArray[Any]]) -> Arrays:
    raise RuntimeError("the runtime has failed")


class Quiet:
    """A dispatch over a model of one slot whose runs go as a script says."""

    def __init__(self, script: Script, *, fails: bool = False) -> None:
        self.engine = FakeEngine()
        spec = ModelSpec("m", "1", (X,), (Y,), has_variables=False, slots=1)
        self.engine.add(spec, broken if fails else same, script)
        self.core = Core(Limits())
        self.core.models.add(spec)
        self.dispatcher = Dispatcher(self.core, self.engine)

    def ask(self, *, timeout: float = 0.0) -> StreamHandle:
        """The stream of an Infer whose output is kept."""
        core = self.core
        handle = self.dispatcher.open(unary=True)
        stream = handle.stream
        core.define(stream, 1, Call("m", "", (Inline("x", Datatype.FP32, (1,)),), (), False, ("y",)), 100)
        core.infer(stream, 1, 1, [memoryview(bytes(4))], core.charge(stream, 4), self.dispatcher.now(), timeout=timeout)
        self.dispatcher.act()
        return handle

    async def told(self, handle: StreamHandle) -> Event:
        async with asyncio.timeout(30):
            while not (events := handle.take()):
                assert await wait_for_events(handle)
        (event,) = events
        handle.handed_off(events)
        return event

    async def free(self) -> None:
        """Wait until the slot is."""
        (model,) = self.core.models
        for _ in range(50):
            if model.slots == [SlotState.FREE]:
                break
            await asyncio.sleep(POLL_SECONDS)
        assert model.slots == [SlotState.FREE]
        assert self.core.accounts.queue.used == 0
        assert self.dispatcher.waits_for_clients(), "a run that has ended counts as running"


@pytest.mark.parametrize("polls", LATE)
async def test_a_late_failure_ends_its_ticket(polls: int) -> None:
    quiet = Quiet(Script(polls=polls), fails=True)
    event = await quiet.told(quiet.ask())
    assert isinstance(event, Failed)
    assert event.error.code.name == "INTERNAL"
    await quiet.free()
    assert quiet.core.accounts.keep.used == 0
    quiet.dispatcher.close()


@pytest.mark.parametrize("polls", LATE[1:])
@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails"])
@pytest.mark.parametrize("end", ["cancel", "deadline", "vanish"])
async def test_a_stopped_run_gives_its_slot_back_however_late_it_ends(polls: int, fails: bool, end: str) -> None:
    quiet = Quiet(Script(polls=polls, ignores_cancel=True), fails=fails)
    stream = quiet.ask(timeout=0.005 if end == "deadline" else 0)
    if end == "vanish":
        stream.close()
    else:
        if end == "cancel":
            quiet.core.cancel(stream.stream, 1, quiet.dispatcher.now())
            quiet.dispatcher.act()
        event = await quiet.told(stream)
        assert isinstance(event, Failed)
        assert event.error.code.name == {"cancel": "CANCELLED", "deadline": "DEADLINE_EXCEEDED"}[end]
    await quiet.free()
    quiet.dispatcher.close()


async def test_a_late_stop_never_hits_the_next_run_of_its_slot() -> None:
    """The run has ended in the turn in which its ticket was cancelled: what is stopped would be its successor."""
    quiet = Quiet(Script(held=True))
    first, second = quiet.ask(), quiet.ask()
    (run,) = quiet.engine.running
    quiet.core.cancel(first.stream, 1, quiet.dispatcher.now())  # the dispatcher has not acted when the run ends
    quiet.engine.finish(run)
    await asyncio.sleep(0)
    (successor,) = quiet.engine.running
    assert successor is not run
    quiet.engine.finish(successor)
    assert isinstance(await quiet.told(second), Done)
    await quiet.free()
    quiet.dispatcher.close()
