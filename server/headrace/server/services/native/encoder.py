"""From the core's terms to the messages of a stream."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from headrace.server.core.events import Done, Draining, Event, Failed, Fetched, Hello
from headrace.server.core.specs import Port
from headrace.server.version import VERSION
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.durations import microseconds
from headrace.wire.errors import HeadraceError
from headrace.wire.frames import join_frame
from headrace.wire.limits import MAX_LAYOUTS
from headrace.wire.lru import LruCache
from headrace.wire.tensors import Buffer
from headrace.wire.varints import varint

_FAILED, _FETCHED, _LAYOUT, _HELLO, _DRAINING = (
    pb.Event.FAILED,
    pb.Event.FETCHED,
    pb.Event.LAYOUT,
    pb.Event.HELLO,
    pb.Event.DRAINING,
)
_LAYOUT_KEY, _WAITING_KEY, _QUEUED_KEY, _RUNNING_KEY = (
    bytes((pb.Event.DESCRIPTOR.fields_by_name[name].number << 3,))
    for name in ("layout", "waiting_us", "queued_us", "running_us")
)
"""Of varints."""


class Encoder:
    """Encodes the events of one stream, and remembers which layouts its client knows.

    An event is a frame of its own at first: protobuf joins repeated fields, so the concatenation of such frames is the
    frame that holds them all.
    """

    def __init__(self) -> None:
        self._layouts: LruCache[Hashable, int] = LruCache(MAX_LAYOUTS)
        self._tail: tuple[Hashable, bytes] = (None, b"")

    def encode(self, events: Sequence[Event]) -> bytes:
        """A ServerFrame. The only place where the bytes of outputs are copied."""
        items: list[bytes] = []
        tensors: list[Buffer] = []
        for event in events:
            if type(event) is Done:
                self._done(items, tensors, event)
                continue
            match event:
                case Failed():
                    items.append(_item(kind=_FAILED, tag=event.tag, failure=_failure(event.error)))
                case Fetched():
                    self._fetched(items, tensors, event)
                case Hello():
                    items.append(_item(kind=_HELLO, hello=_hello(event)))
                case Draining():
                    items.append(_item(kind=_DRAINING, grace_us=microseconds(event.grace)))
        return join_frame(b"".join(items), tensors)

    def _done(self, items: list[bytes], tensors: list[Buffer], done: Done) -> None:
        """Written by hand, as there are so many: those of a batch have all in common but their tags."""
        layout = 0
        sent, kept = done.sent, done.kept
        if sent or kept:
            # The plan stands for names and datatypes.
            key = (
                done.plan,
                *[tensor.shape for tensor in sent],
                *[(port.index, tensor.shape) for port, tensor in kept],
            )
            layout = self._layouts.get(key) or self._describe(items, key, done)
            tensors += [tensor.read() for tensor in sent]
        common = (layout, done.waiting, done.queued, done.running)
        if self._tail[0] != common:
            self._tail = common, _tail(*common)
        tail = self._tail[1]
        items.append(b"\x0a%c\x11%b%b" % (9 + len(tail), done.tag.to_bytes(8, "little"), tail))

    def _fetched(self, items: list[bytes], tensors: list[Buffer], fetched: Fetched) -> None:
        key = (fetched.port, fetched.shape)
        number = self._layouts.get(key)
        if number is None:
            number = self._number(key)
            sent = [to_tensor(fetched.port, fetched.tensor.datatype, fetched.shape)]
            items.append(_item(kind=_LAYOUT, layout=number, define=pb.Layout(sent=sent)))
        items.append(_item(kind=_FETCHED, tag=fetched.tag, layout=number))
        tensors.append(fetched.tensor.read(fetched.slices))

    def _describe(self, items: list[bytes], key: Hashable, done: Done) -> int:
        plan = done.plan
        number = self._number(key)
        layout = pb.Layout(
            sent=[
                to_tensor(port, tensor.datatype, tensor.shape)
                for port, tensor in zip(plan.outputs, done.sent, strict=True)
            ],
            kept=[to_tensor(port, tensor.datatype, tensor.shape) for port, tensor in done.kept],
        )
        items.append(_item(kind=_LAYOUT, layout=number, define=layout))
        return number

    def _number(self, key: Hashable) -> int:
        """A number for a new layout: that of the least recently used one, once all are taken."""
        number = len(self._layouts) + 1
        if number > MAX_LAYOUTS:
            ((_, number),) = self._layouts.put(key, 0)
        self._layouts.put(key, number)
        return number


def _item(**event: Any) -> bytes:
    return pb.ServerFrame(events=[pb.Event(**event)]).SerializeToString()


def _tail(layout: int, waiting: float, queued: float, running: float) -> bytes:
    """The fields of a Done behind its tag, as protobuf writes them."""
    tail = b""
    if layout:
        tail = _LAYOUT_KEY + varint(layout)
    if waiting := int(waiting * 1e6):
        tail += _WAITING_KEY + varint(waiting)
    if queued := int(queued * 1e6):
        tail += _QUEUED_KEY + varint(queued)
    if running := int(running * 1e6):
        tail += _RUNNING_KEY + varint(running)
    return tail


def to_tensor(port: Port, datatype: Datatype, shape: Sequence[int]) -> pb.Tensor:
    return pb.Tensor(name=port.name, datatype=pb.Datatype.ValueType(datatype), shape=shape)


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
