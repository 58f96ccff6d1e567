"""Encodes the events of a stream as messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from headrace.server.core.events import Done, Draining, Event, Failed, Fetched, Hello
from headrace.server.core.specs import Port
from headrace.server.services.native.layouts import LayoutKey, Layouts
from headrace.server.version import BUILD, INSTANCE, VERSION
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.durations import microseconds
from headrace.wire.errors import HeadraceError
from headrace.wire.frames import join_frame
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
"""The keys of these fields, which are all varints."""


class Encoder:
    """Encodes the events of one stream, and remembers which layouts its client knows.

    Each event is first encoded as a frame of its own. Protobuf joins repeated fields, so the concatenation of these
    frames is one frame with all the events.
    """

    def __init__(self, layouts: Layouts, failed: Callable[[Failed], None] = lambda _: None) -> None:
        """`failed` is called with each failure that is encoded: nobody else looks at every event."""
        self._layouts = layouts
        self._failed = failed
        self.close = layouts.close
        self._last_fields: tuple[Hashable, bytes] = (None, b"")
        """The layout and times of the last Done, and the fields that they were encoded as."""

    def encode(self, events: Sequence[Event]) -> bytes:
        """Encode events as a ServerFrame. The bytes of outputs are copied only here."""
        items: list[bytes] = []
        tensors: list[Buffer] = []
        for event in events:
            if type(event) is Done:
                self._encode_done(items, tensors, event)
                continue
            match event:
                case Failed():
                    items.append(_item(kind=_FAILED, tag=event.tag, failure=_failure(event.error)))
                    self._failed(event)
                case Fetched():
                    self._encode_fetched(items, tensors, event)
                case Hello():
                    items.append(_item(kind=_HELLO, hello=_hello(event)))
                case Draining():
                    grace_us, stream_only = microseconds(event.grace), event.stream_only
                    items.append(_item(kind=_DRAINING, grace_us=grace_us, stream_only=stream_only))
        return join_frame(b"".join(items), tensors)

    def _encode_done(self, items: list[bytes], tensors: list[Buffer], done: Done) -> None:
        """Encode a Done by hand: 2.2 times as fast as with protobuf, which saves 4 us of every inference.

        Only the tags differ within a batch.
        """
        layout = 0
        sent, kept = done.sent, done.kept
        if sent or kept:
            # The plan determines names and datatypes.
            key = (
                done.plan,
                *[tensor.shape for tensor in sent],
                *[(port.index, tensor.shape) for port, tensor in kept],
            )
            layout = self._layouts.get(key) or self._define_layout(items, key, done)
            tensors += [tensor.read() for tensor in sent]
        common = (layout, done.waiting, done.queued, done.running)
        if self._last_fields[0] != common:
            self._last_fields = common, _done_fields(*common)
        fields = self._last_fields[1]
        items.append(b"\x0a%c\x11%b%b" % (9 + len(fields), done.tag.to_bytes(8, "little"), fields))

    def _encode_fetched(self, items: list[bytes], tensors: list[Buffer], fetched: Fetched) -> None:
        key = (fetched.port, fetched.shape)
        number = self._layouts.get(key)
        if number is None:
            number = self._layouts.assign(key, (fetched.shape,))
            sent = [to_tensor(fetched.port, fetched.tensor.datatype, fetched.shape)]
            items.append(_item(kind=_LAYOUT, layout=number, define=pb.Layout(sent=sent)))
        items.append(_item(kind=_FETCHED, tag=fetched.tag, layout=number))
        tensors.append(fetched.tensor.read(fetched.slices))

    def _define_layout(self, items: list[bytes], key: LayoutKey, done: Done) -> int:
        plan = done.plan
        shapes = [tensor.shape for tensor in (*done.sent, *[tensor for _, tensor in done.kept])]
        number = self._layouts.assign(key, shapes)
        layout = pb.Layout(
            sent=[
                to_tensor(port, tensor.datatype, tensor.shape)
                for port, tensor in zip(plan.outputs, done.sent, strict=True)
            ],
            kept=[to_tensor(port, tensor.datatype, tensor.shape) for port, tensor in done.kept],
            version=plan.spec.version,
            fingerprint=plan.spec.fingerprint,
        )
        items.append(_item(kind=_LAYOUT, layout=number, define=layout))
        return number


def _item(**event: Any) -> bytes:
    return pb.ServerFrame(events=[pb.Event(**event)]).SerializeToString()


def _done_fields(layout: int, waiting: float, queued: float, running: float) -> bytes:
    """The fields of a Done that follow its tag, as protobuf encodes them."""
    fields = b""
    if layout:
        fields = _LAYOUT_KEY + varint(layout)
    if waiting_us := int(waiting * 1e6):
        fields += _WAITING_KEY + varint(waiting_us)
    if queued_us := int(queued * 1e6):
        fields += _QUEUED_KEY + varint(queued_us)
    if running_us := int(running * 1e6):
        fields += _RUNNING_KEY + varint(running_us)
    return fields


def to_tensor(port: Port, datatype: Datatype, shape: Sequence[int]) -> pb.Tensor:
    return pb.Tensor(name=port.name, datatype=pb.Datatype.ValueType(datatype), shape=shape)


def _failure(error: HeadraceError) -> pb.Failure:
    failure = pb.Failure(code=pb.Code.ValueType(error.code), message=error.message, retryable=error.retryable)
    if error.retry_after is not None:
        failure.retry_after_us = max(1, math.ceil(error.retry_after * 1e6))
    return failure


def _hello(hello: Hello) -> pb.Hello:
    return pb.Hello(
        version=VERSION,
        window=hello.window,
        max_message_bytes=hello.max_message_bytes,
        keep_bytes=hello.keep_bytes,
        keep_us=microseconds(hello.keep_seconds),
        queue_bytes=hello.queue_bytes,
        build=BUILD,
        instance=INSTANCE,
    )
