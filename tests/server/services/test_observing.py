"""Traces of the requests of a call: each that is traced ends once, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.core import Core
from headrace.server.core.events import Done, Event, Failed
from headrace.server.core.limits import Limits
from headrace.server.services.call import Call
from headrace.server.services.observing import Observers, Traces
from headrace.wire.errors import ResourceExhausted
from tests.server.services.oip.calls import InMemoryCall

Ended = tuple[object, Failed | Done | None, float, float, bytes]


class Recorder:
    """A tracer of everything that has a parent."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []

    def begin(self, parent: str, state: str) -> object | None:
        return (parent, state) if parent else None

    def end(
        self,
        context: object,
        call: Call,
        rpc: str,
        event: Done | Failed | None,
        arrived: float,
        sent: float,
        request: bytes = b"",
    ) -> None:
        assert rpc == "service/method"
        self.ended.append((context, event, arrived, sent, request))


def traces(recorder: Recorder, *metadata: tuple[str, str]) -> Traces:
    made = Observers(tracer=recorder).traces(InMemoryCall(metadata=metadata), "service/method")
    assert made is not None
    return made


def failed(tag: int) -> Failed:
    return Failed(tag, ResourceExhausted("full"), admitted=False)


async def test_a_request_ends_when_its_event_was_written() -> None:
    recorder, stream = Recorder(), Core(Limits()).open_stream()
    made = traces(recorder, ("traceparent", "of the call"), ("tracestate", "s"))
    made.begin(stream, 1, 10.0)
    made.begin(stream, 2, 11.0, "its own")
    events: Sequence[Event] = [failed(2), *stream.take(), failed(3)]  # Hello has no trace, nor has a stranger
    made.taken(events, b"id")
    assert recorder.ended == []
    made.written(12.0)
    assert recorder.ended == [(("its own", ""), events[0], 11.0, 12.0, b"id")]
    made.written(13.0)
    made.close(14.0)
    made.close(15.0)
    assert recorder.ended[1:] == [(("of the call", "s"), None, 10.0, 14.0, b"")]


async def test_a_tag_that_cannot_be_a_request_of_its_own_is_not_traced() -> None:
    """The one that is live goes on, with its own trace; of tag 0 there is no event that could be its end."""
    core, recorder = Core(Limits()), Recorder()
    stream = core.open_stream()
    made = traces(recorder)
    made.begin(stream, 7, 1.0, "first")
    core.infer(stream, 7, 99, [], core.charge(stream, 0), 1.0)  # fails, and is live until its event is handed off
    made.begin(stream, 7, 2.0, "second")
    made.begin(stream, 0, 2.0, "of tag 0")
    made.taken(stream.take())
    made.close(3.0)
    ((context, event, arrived, sent, _),) = recorder.ended
    assert isinstance(event, Failed)
    assert (context, event.tag, arrived, sent) == (("first", ""), 7, 1.0, 3.0)


async def test_without_a_tracer_there_is_nothing_to_ask() -> None:
    assert Observers().traces(InMemoryCall(metadata=(("traceparent", "p"),)), "service/method") is None
