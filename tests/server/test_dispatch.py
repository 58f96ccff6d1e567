"""The event loop goes on while models run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core, Limits
from headrace.server.core.events import Done
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatch import Dispatch
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.wire.dtypes import Datatype
from tests import models
from tests.e2e.test_formats import WORDS, packaged


class Gaps:
    """`longest`: seconds between two turns of the loop, at most, inside the block."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.longest = 0.0

    def __enter__(self) -> Gaps:
        self._last = self._loop.time()
        self._handle = self._loop.call_soon(self._turn)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()

    def _turn(self) -> None:
        now = self._loop.time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = self._loop.call_soon(self._turn)


async def infer(dispatch: Dispatch, spec: ModelSpec, shape: tuple[int, ...], data: bytes) -> Done:
    """One inference, of which nothing is asked for."""
    inputs = tuple(Inline(port.name, Datatype.FP32, shape) for port in spec.inputs)
    core = dispatch.core
    stream = core.open_stream(unary=True)
    core.define(stream, 1, Call(spec.name, "", inputs, (), False, ()), 100)
    core.infer(stream, 1, 1, [memoryview(data)] * len(inputs), core.cargo(len(data)), dispatch.now())
    dispatch.act()
    (event,) = await dispatch.events(stream)
    assert isinstance(event, Done), event
    dispatch.leave(stream)
    return event


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        pytest.param("add_multiply", [(700_000, 16)] * 3, id="a huge batch of a model that runs directly"),
        pytest.param("words", [(1, 3, 48, width) for width in (640, 960, 1280)], id="first runs of new shapes"),
    ],
)
async def test_a_long_run_does_not_hold_up_the_loop(tmp_path: Path, model: str, shapes: list[tuple[int, ...]]) -> None:
    path = packaged(*WORDS) if model == "words" else models.add_multiply(tmp_path)
    engine = OpenVinoEngine()
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    spec = engine.load("m", "1", path, Compilation(run="direct", properties=properties))
    core = Core(Limits())
    core.models.add(spec)
    dispatch = Dispatch(core, engine)
    if model == "add_multiply":
        for _ in range(5):
            await infer(dispatch, spec, (1, 16), bytes(64))
    for shape in shapes:
        data = np.ones(shape, np.float32).tobytes()
        with Gaps() as gaps:
            done = await infer(dispatch, spec, shape, data)
        assert done.running > 0.02
        assert gaps.longest < done.running / 2
    dispatch.close()
    engine.close()
