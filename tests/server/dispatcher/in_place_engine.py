"""An engine that does every run in place, on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from headrace.server.core.calls import Call, Inline, Reference
from headrace.server.core.core import Core
from headrace.server.core.engine_api import Ended, Run
from headrace.server.core.limits import Limits
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.core.state import Ticket
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.dispatcher.handle import StreamHandle
from headrace.server.engine.fake import result_of
from headrace.wire.dtypes import Datatype

ONE = (Dimension(1, 1),)
SPEC = ModelSpec(
    "m", "1", (Port(0, ("x",), Datatype.FP32, ONE),), (Port(0, ("y",), Datatype.FP32, ONE),), False, 1, direct=True
)
"""x: f32[1] -> y: f32[1], the same."""


class InPlaceEngine:
    """Each run takes `seconds` of the time that `now` says, which begins with that of the event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._time = asyncio.get_running_loop().time()
        self.tags: list[int] = []
        """The tags of the tickets that have run, in order."""

    def now(self) -> float:
        return self._time

    def start(self, run: Run, *, in_place: bool = True) -> Ended | None:
        (part,) = run.parts
        assert isinstance(part, Ticket)
        self.tags.append(part.tag)
        self._time += self._seconds
        return result_of(run, lambda inputs: {"y": np.copy(inputs["x"])})

    def follow(self, run: Run) -> Ended | None:
        return self.start(run)

    def cancel(self, run: Run) -> None:
        raise AssertionError("a run in place has ended when it could be stopped")

    def collect(self) -> list[Ended]:
        return []

    def poll(self) -> list[Ended]:
        return []

    def restored(self) -> list[tuple[ModelSpec, int, bool]]:
        return []

    def on_ended(self, wake: Callable[[], None]) -> None:
        pass

    def unload(self, spec: ModelSpec) -> None:
        raise AssertionError("no model is unloaded")


def dispatcher_over(engine: InPlaceEngine) -> Dispatcher:
    """A dispatcher with the model SPEC, on the engine's clock."""
    core = Core(Limits())
    core.models.add(SPEC)
    dispatcher = Dispatcher(core, engine)
    dispatcher.now = engine.now
    return dispatcher


def tell(dispatcher: Dispatcher, handle: StreamHandle, tag: int, *, source: int = 0, timeout: float = 0.0) -> None:
    """Tell the core of an Infer that keeps its output. With a `source` its input is that ticket's output."""
    core, stream, number = dispatcher.core, handle.stream, 2 if source else 1
    given = Reference("x", "y", take=False) if source else Inline("x", Datatype.FP32, (1,))
    core.define(stream, number, Call(SPEC.name, "", (given,), (), False, ("y",)), 100)
    inline, sources = ([], [source]) if source else ([memoryview(bytes(4))], [])
    charge = core.charge(stream, 4 * len(inline))
    core.infer(stream, tag, number, inline, charge, dispatcher.now(), sources=sources, timeout=timeout)
