"""Infers as items of frames, by the calls of their stream. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.client.protocol.call import Call
from headrace.client.protocol.call_cache import CallCache
from headrace.client.protocol.call_description import Arrays, Names, describe, names_of, signature
from headrace.client.protocol.inputs import Inputs, Reference, Zeros, normalize
from headrace.wire.errors import ResourceExhausted, quote


class InferEncoder:
    """Makes the item of any Infer, and defines its call on first use.

    `stream` identifies the stream in references. `send` queues the items that define a call.
    """

    def __init__(self, stream: object, send: Callable[[bytes], None]) -> None:
        self._stream = stream
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
        server's largest message, ValueError for a reference to a ticket of another stream.
        """
        key, arrays, references = signature(names, inputs)
        call = self.calls.get(key)
        if call is None:
            call, arrays = self._define(names, inputs)
        for reference in references:
            if reference.stream is not self._stream:
                raise ValueError(f"{reference} belongs to another stream")
        if call.options != (timeout, priority):
            call.set_options(timeout, priority)
        if call.cost > self.max_item_bytes:
            raise _too_large(call, inputs, call.cost, self.max_item_bytes)
        item, cost = call.fill(tag, arrays, references)
        if len(item) > self.max_item_bytes:
            raise _too_large(call, inputs, len(item), self.max_item_bytes)
        return call, item, cost

    def _define(self, names: Names, inputs: Inputs) -> tuple[Call, Arrays]:
        names = names_of(*names)
        inputs = normalize(inputs)
        key, arrays, _ = signature(names, inputs)
        call = self.calls.get(key)
        if call is None:
            call, items = self.calls.define(key, describe(names, inputs), inputs)
            for item in items:
                self._send(item)
        return call, arrays


def _too_large(call: Call, inputs: Inputs, cost: int, max_bytes: int) -> ResourceExhausted:
    sizes = ", ".join(
        f"{quote(name)} {np.asarray(value).nbytes}"
        for name, value in inputs.items()
        if not isinstance(value, Reference | Zeros)
    )
    return ResourceExhausted(
        f"the inputs of model {quote(call.model)} take {cost} bytes ({sizes}); "
        f"the server takes messages of at most {max_bytes} bytes",
        retryable=False,
    )
