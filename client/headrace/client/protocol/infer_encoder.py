"""Infers as items of frames, by the calls of their stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from headrace.client.protocol.call import Call
from headrace.client.protocol.call_cache import CallCache
from headrace.client.protocol.call_description import Arrays, Names, describe, names_of, normalize, signature
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, Zeros
from headrace.client.protocol.known_models import KnownModels, key_of
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import ResourceExhausted, quote
from headrace.wire.varints import read_varint, varint

_TRACE_PARENT_KEY = varint(pb.Command.DESCRIPTOR.fields_by_name["traceparent"].number << 3 | 2)


class InferEncoder:
    """Makes the item of any Infer, and defines its call on first use.

    `stream` identifies the stream in references. `send` queues the items that define a call. Inputs are checked
    against `models` when their call is defined.
    """

    def __init__(self, stream: object, send: Callable[[bytes], None], models: KnownModels) -> None:
        self._stream = stream
        self._models = models
        self._send = send
        self.calls = CallCache()
        self.max_item_bytes = 0
        """The largest message that the server takes."""

    def set_max_message_bytes(self, max_bytes: int) -> None:
        self.max_item_bytes = max_bytes
        self.calls.max_item_bytes = min(self.calls.max_item_bytes, max_bytes)

    def encode(
        self,
        tag: int,
        names: Names,
        inputs: Inputs,
        timeout: float | None,
        priority: int,
    ) -> tuple[Call, bytes, int]:
        """The call, the item and its cost in bytes.

        Raises InvalidArgument for a dtype or element without a datatype, ResourceExhausted for an item over the
        server's largest message, ValueError for a reference to a ticket of another stream, TypeError for a ticket in
        place of a reference, DescriptionNeeded if the call depends on a fresh description of the model.
        """
        key, arrays, references, plain = signature(names, inputs)
        call = self.calls.get(key)
        if call is None:
            call, arrays = self._define(names, normalize(inputs, arrays), plain)
        for reference in references:
            if reference.stream is not self._stream:
                raise ValueError(f"{reference} belongs to another stream")
        if call.options != (timeout, priority):
            call.set_options(timeout, priority)
        if call.cost > self.max_item_bytes:
            raise _too_large(call, inputs, arrays, call.cost, self.max_item_bytes)
        item, cost = call.fill(tag, arrays, references)
        if len(item) > self.max_item_bytes:
            raise _too_large(call, inputs, arrays, len(item), self.max_item_bytes)
        return call, item, cost

    def doubt(self, call: Call) -> None:
        """The server has refused what this call describes: look again at the model's ports the next time."""
        self.calls.discard(call)
        self._models.forget(key_of(call.key[0]))

    def _define(self, names: Names, inputs: NormalInputs, plain: Collection[str]) -> tuple[Call, Arrays]:
        names = names_of(*names)
        inputs = self._models.fit(names, inputs, plain)
        key, arrays, *_ = signature(names, inputs)
        call = self.calls.get(key)
        if call is None:
            call, items = self.calls.define(key, describe(names, inputs), inputs)
            for item in items:
                self._send(item)
        return call, arrays


def with_trace_parent(item: bytes, parent: str) -> bytes:
    """An item of an Infer that says which trace it belongs to. A template has no place for that."""
    # A frame begins with its command, and the order of fields does not matter.
    length, start = read_varint(item, 1)
    end = start + length
    text = parent.encode()
    field = _TRACE_PARENT_KEY + varint(len(text)) + text
    return b"".join((item[:1], varint(length + len(field)), item[start:end], field, item[end:]))


def _too_large(call: Call, inputs: Inputs, arrays: Arrays, cost: int, max_bytes: int) -> ResourceExhausted:
    inline = [name for name, value in inputs.items() if not isinstance(value, Reference | Zeros)]
    sizes = ", ".join(f"{quote(name)} {array.nbytes}" for name, array in zip(inline, arrays, strict=True))
    return ResourceExhausted(
        f"the inputs of model {quote(call.model)} take {cost} bytes ({sizes}); "
        f"the server takes messages of at most {max_bytes} bytes",
        retryable=False,
    )
