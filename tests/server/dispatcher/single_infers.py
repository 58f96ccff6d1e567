"""Infers that come one in a stream, through a dispatcher."""

from __future__ import annotations

from headrace.server.core.calls import Call, Inline
from headrace.server.core.events import Done, Event
from headrace.server.core.specs import ModelSpec
from headrace.server.dispatcher.dispatcher import Dispatcher
from headrace.server.dispatcher.handle import StreamHandle
from headrace.wire.dtypes import Datatype
from tests.server.dispatcher.waiting import wait_for_events


def submit(dispatcher: Dispatcher, spec: ModelSpec, shape: tuple[int, ...], data: bytes) -> StreamHandle:
    """The stream of an Infer that asks for no output. The dispatcher has not acted."""
    inputs = tuple(Inline(port.name, Datatype.FP32, shape) for port in spec.inputs)
    core = dispatcher.core
    handle = dispatcher.open(unary=True)
    stream = handle.stream
    core.define(stream, 1, Call(spec.name, "", inputs, (), False, ()), 100)
    core.infer(stream, 1, 1, [memoryview(data)] * len(inputs), core.charge(stream, len(data)), dispatcher.now())
    return handle


async def event_of(handle: StreamHandle) -> Event:
    """Wait for the only event of a stream."""
    while not (events := handle.take()):
        assert await wait_for_events(handle)
    (event,) = events
    handle.close()
    return event


async def infer(dispatcher: Dispatcher, spec: ModelSpec, shape: tuple[int, ...], data: bytes) -> Done:
    """One inference that asks for no output."""
    stream = submit(dispatcher, spec, shape, data)
    dispatcher.act()
    event = await event_of(stream)
    assert isinstance(event, Done), event
    return event
