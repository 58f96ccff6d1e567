"""From the core's terms to the messages of a stream."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from headrace.server.core.events import Described, Done, Draining, Event, Failed, Fetched, Hello
from headrace.server.core.specs import Port
from headrace.server.version import VERSION
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import HeadraceError
from headrace.wire.frames import join_frame
from headrace.wire.tensors import Buffer

MAX_LAYOUTS = 1024

_DONE, _FAILED, _FETCHED, _LAYOUT, _HELLO, _DRAINING = (
    pb.Event.DONE,
    pb.Event.FAILED,
    pb.Event.FETCHED,
    pb.Event.LAYOUT,
    pb.Event.HELLO,
    pb.Event.DRAINING,
)


class Encoder:
    """Encodes the events of one stream, and remembers which layouts its client knows."""

    def __init__(self) -> None:
        self._layouts: dict[Hashable, int] = {}

    def encode(self, events: Sequence[Event]) -> bytes:
        """A ServerFrame. The only place where the bytes of outputs are copied."""
        frame = pb.ServerFrame()
        tensors: list[Buffer] = []
        for event in events:
            match event:
                case Done():
                    self._done(frame, tensors, event)
                case Failed():
                    frame.events.add(kind=_FAILED, tag=event.tag, failure=_failure(event.error))
                case Fetched():
                    self._fetched(frame, tensors, event)
                case Hello():
                    frame.events.add(kind=_HELLO, hello=_hello(event))
                case Draining():
                    frame.events.add(kind=_DRAINING, grace_us=microseconds(event.grace))
        return join_frame(frame.SerializeToString(), tensors)

    def _done(self, frame: pb.ServerFrame, tensors: list[Buffer], done: Done) -> None:
        layout = 0
        plan = done.ticket.plan
        if plan is not None and (done.sent or done.kept):
            # The plan stands for names and datatypes.
            key = (
                plan,
                tuple([tensor.shape for tensor in done.sent]),
                tuple([(port.index, tensor.shape) for port, tensor in done.kept]),
            )
            number = self._layouts.get(key)
            layout = number or self._describe(frame, key, zip(plan.outputs, done.sent, strict=True), done.kept)
            tensors.extend([tensor.read() for tensor in done.sent])
        frame.events.add(
            tag=done.ticket.tag,
            layout=layout,
            waiting_us=microseconds(done.waiting),
            queued_us=microseconds(done.queued),
            running_us=microseconds(done.running),
        )

    def _fetched(self, frame: pb.ServerFrame, tensors: list[Buffer], fetched: Fetched) -> None:
        key = (fetched.port, fetched.shape)
        number = self._layouts.get(key)
        if number is None:
            number = self._number(key)
            sent = [to_tensor(fetched.port, fetched.tensor.datatype, fetched.shape)]
            frame.events.add(kind=_LAYOUT, layout=number, define=pb.Layout(sent=sent))
        frame.events.add(kind=_FETCHED, tag=fetched.ticket.tag, layout=number)
        tensors.append(fetched.tensor.read(fetched.slices))

    def _describe(
        self, frame: pb.ServerFrame, key: Hashable, sent: Iterable[Described], kept: Iterable[Described]
    ) -> int:
        number = self._number(key)
        layout = pb.Layout(
            sent=[to_tensor(port, tensor.datatype, tensor.shape) for port, tensor in sent],
            kept=[to_tensor(port, tensor.datatype, tensor.shape) for port, tensor in kept],
        )
        frame.events.add(kind=_LAYOUT, layout=number, define=layout)
        return number

    def _number(self, key: Hashable) -> int:
        if len(self._layouts) == MAX_LAYOUTS:
            self._layouts.clear()
        number = self._layouts[key] = len(self._layouts) + 1
        return number


def to_tensor(port: Port, datatype: Datatype, shape: Sequence[int]) -> pb.Tensor:
    return pb.Tensor(name=port.name, datatype=pb.Datatype.ValueType(datatype), shape=shape)


def microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))


def _failure(error: HeadraceError) -> pb.Failure:
    return pb.Failure(code=pb.Code.ValueType(error.code), message=error.message, retryable=error.retryable)


def _hello(hello: Hello) -> pb.Hello:
    return pb.Hello(
        version=VERSION,
        window=hello.window,
        max_message_bytes=hello.max_message_bytes,
        keep_bytes=hello.keep_bytes,
        keep_us=microseconds(hello.keep_seconds),
    )
