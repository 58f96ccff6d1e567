"""The dispatcher between core and engine: the event loop goes on while models run."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from headrace.server.core.batching import IDLE_SECONDS, MAX_WAIT_SECONDS, MIN_PAUSE, WORTHWHILE
from headrace.server.core.core import Core
from headrace.server.core.engine_api import Run
from headrace.server.core.events import Done, Failed
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.fake import Arrays, FakeEngine, Script
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.wire.dtypes import Datatype
from tests import models
from tests.interpreted import interpreted
from tests.packaged_models import WORDS, packaged
from tests.server.dispatcher.single_infers import event_of, infer, submit
from tests.stopwatch import Stopwatch


class Gaps:
    """`longest`: seconds between two turns of the loop, at most, inside the block, while the machine runs."""

    def __init__(self, watch: Stopwatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._watch = watch
        self.longest = 0.0

    def __enter__(self) -> Gaps:
        self._watch.start()
        self._handle = self._loop.call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _turn(self) -> None:
        self.longest = max(self.longest, self._watch.ran())
        self._watch.start()
        self._handle = self._loop.call_soon(self._turn)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        pytest.param("add_multiply", [(700_000, 16)] * 3, id="a huge batch of a model that runs directly"),
        pytest.param("words", [(1, 3, 48, width) for width in (640, 960, 1280)], id="first runs of new shapes"),
    ],
)
async def test_a_long_run_does_not_hold_up_the_loop(
    tmp_path: Path, stopwatch: Stopwatch, model: str, shapes: list[tuple[int, ...]]
) -> None:
    path = packaged(*WORDS) if model == "words" else models.add_multiply(tmp_path)
    engine = OpenVinoEngine()
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    spec = engine.load("m", "1", path, Compilation(run="direct", properties=properties))
    core = Core(Limits())
    core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    if model == "add_multiply":
        for _ in range(5):
            await infer(dispatcher, spec, (1, 16), bytes(64))
    for shape in shapes:
        data = np.ones(shape, np.float32).tobytes()
        with Gaps(stopwatch) as gaps:
            done = await infer(dispatcher, spec, shape, data)
        assert done.running > 0.02
        assert gaps.longest < done.running / 2
    dispatcher.close()
    engine.close()


async def test_only_the_bad_ticket_of_a_batch_is_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    def positive(inputs: dict[str, npt.NDArray[Any]]) -> Arrays:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": inputs["x"]}

    any_rows = (Dimension(0, -1),)
    ports = (Port(0, ("x",), Datatype.FP32, any_rows),), (Port(0, ("y",), Datatype.FP32, any_rows),)
    engine = FakeEngine()
    spec = engine.add(ModelSpec("m", "1", *ports, has_variables=False, slots=1, direct=True, batch=4), positive)
    core = Core(Limits())
    core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    with caplog.at_level(logging.INFO, "headrace.server.dispatcher.dispatcher"):
        values = np.array([1, -2, 3], np.float32)
        streams = [submit(dispatcher, spec, (1,), value.tobytes()) for value in values]
        dispatcher.act()
        events = [await event_of(stream) for stream in streams]
    assert [len(run.parts) for run in engine.started] == [3, 1, 1, 1]
    assert [type(event) for event in events] == [Done, Failed, Done]
    (batch, incident) = caplog.records
    assert (batch.levelno, batch.getMessage()) == (
        logging.INFO,
        "a batch of 3 failed (negative); each runs again alone",
    )
    assert incident.levelno == logging.ERROR
    assert isinstance(events[1], Failed)
    number = incident.getMessage().removeprefix("incident ")
    assert events[1].error.code.name == "INTERNAL"
    assert number in events[1].error.message
    dispatcher.close()


@interpreted
@pytest.mark.parametrize("run", ["direct", "async"])
async def test_a_model_is_freed_after_its_last_ticket(tmp_path: Path, run: Literal["direct", "async"]) -> None:
    engine = OpenVinoEngine()
    path, compilation = models.add_multiply(tmp_path), Compilation(run=run, slots=2, batch=1)
    old, new = (engine.load("m", "1", path, compilation) for _ in range(2))
    slots = [weakref.ref(slot) for slot in engine._models[id(old)].slots]
    core = Core(Limits())
    core.models.add(old)
    dispatcher = Dispatcher(core, engine)
    streams = [submit(dispatcher, old, (1, 16), bytes(64)) for _ in range(8)]
    dispatcher.act()
    core.models.add(new)
    streams += [submit(dispatcher, new, (1, 16), bytes(64)) for _ in range(8)]
    core.models.remove("m", "1", "is unloaded")
    late = submit(dispatcher, new, (1, 16), bytes(64))
    dispatcher.act()
    assert [type(await event_of(stream)) for stream in streams] == [Done] * 16
    refused = await event_of(late)
    assert isinstance(refused, Failed)
    assert refused.error.message == "model 'm' is unloaded"
    dispatcher.act()
    assert engine._models == {}
    gc.collect()
    assert [slot() for slot in slots] == [None, None]
    dispatcher.close()
    engine.close()


class Watched(OpenVinoEngine):
    """`unloaded` is set when a model was."""

    def __init__(self) -> None:
        super().__init__()
        self.unloaded = asyncio.Event()

    def unload(self, spec: ModelSpec) -> None:
        super().unload(spec)
        self.unloaded.set()


@interpreted
async def test_a_model_stays_while_a_run_of_it_is_stopping(tmp_path: Path) -> None:
    engine = Watched()
    spec = engine.load("m", "1", models.slow(tmp_path), Compilation(run="async", slots=1))
    core = Core(Limits())
    core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    stream = submit(dispatcher, spec, (1,), bytes(4))
    dispatcher.act()
    core.models.remove("m", "1", "is unloaded")
    stream.close()
    assert [*engine._models] == [id(spec)]
    await engine.unloaded.wait()
    assert engine._models == {}
    assert dispatcher.waits_for_clients()
    dispatcher.close()
    engine.close()


class Recording(FakeEngine):
    """`begun` has the runs that were started until a test takes them, `cancelled` the runs that were stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Queue[Run]()
        self.cancelled: list[Run] = []

    def start(self, run: Run, *, in_place: bool = True) -> None:
        super().start(run)
        self.begun.put_nowait(run)

    def cancel(self, run: Run) -> None:
        super().cancel(run)
        self.cancelled.append(run)


async def test_neither_a_run_that_has_ended_nor_the_next_in_its_slot_is_stopped() -> None:
    """Its ticket was cancelled before, and the dispatcher has not acted since."""
    engine = Recording()
    ports = (Port(0, ("x",), Datatype.FP32, (Dimension(1, 1),)),), (Port(0, ("y",), Datatype.FP32, (Dimension(1, 1),)),)
    spec = ModelSpec("m", "1", *ports, has_variables=False, slots=1)
    engine.add(spec, lambda inputs: {"y": inputs["x"]}, Script(held=True))
    core = Core(Limits())
    core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    gone, stays = submit(dispatcher, spec, (1,), bytes(4)), submit(dispatcher, spec, (1,), bytes(4))
    dispatcher.act()
    first = await engine.begun.get()
    core.cancel(gone.stream, 1, dispatcher.now())
    engine.finish(first)
    second = await engine.begun.get()
    assert (second.slot, engine.running, engine.cancelled) == (first.slot, [second], [])
    assert isinstance(await event_of(gone), Failed)
    engine.finish(second)
    assert isinstance(await event_of(stays), Done)
    assert engine.cancelled == []
    assert dispatcher.waits_for_clients()
    dispatcher.close()


async def test_waiting_tickets_run_when_the_loop_is_idle() -> None:
    """Or when it has waited for long enough, on a loop that says nothing."""
    any_rows = (Dimension(0, -1),)
    ports = (Port(0, ("x",), Datatype.FP32, any_rows),), (Port(0, ("y",), Datatype.FP32, any_rows),)
    engine = FakeEngine()
    spec = ModelSpec("m", "1", *ports, has_variables=False, slots=1, direct=True, batch=16)
    engine.add(spec, lambda inputs: {"y": inputs["x"]})
    core = Core(Limits(coalesce=True))
    core.models.add(spec)
    dispatcher = Dispatcher(core, engine)
    for _ in range(MIN_PAUSE):
        await infer(dispatcher, spec, (1,), bytes(4))
    assert dispatcher.idle_after() == math.inf
    came = dispatcher.now()
    dispatcher.now = lambda: came  # all of them come at once, however busy the machine is
    waiting = [asyncio.create_task(infer(dispatcher, spec, (1,), bytes(4))) for _ in range(WORTHWHILE)]
    await asyncio.sleep(0)
    assert dispatcher.idle_after() == IDLE_SECONDS
    assert len(engine.started) == MIN_PAUSE
    dispatcher.idle()
    await asyncio.wait(waiting)
    assert [len(run.parts) for run in engine.started[MIN_PAUSE:]] == [WORTHWHILE]
    assert dispatcher.idle_after() == math.inf
    dispatcher.now = asyncio.get_running_loop().time
    began = dispatcher.now()
    await infer(dispatcher, spec, (1,), bytes(4))
    assert dispatcher.now() - began >= MAX_WAIT_SECONDS
    dispatcher.close()
