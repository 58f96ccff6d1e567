"""The calls of a stream: descriptions that the server remembers by number. Pure."""

from __future__ import annotations

from headrace.client.protocol.call import Call
from headrace.client.protocol.call_description import Key, Names
from headrace.client.protocol.inputs import NormalInputs
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.frames import MAX_OVERHEAD, MAX_TENSORS
from headrace.wire.limits import MAX_CALL_BYTES, MAX_CALLS
from headrace.wire.lru import LruCache


class CallCache:
    """The calls of a stream by key, within the limits of the contract.

    The server forgets no description on its own. So the number of an evicted call is defined again: either for the next
    call, or as an empty description.
    """

    def __init__(self, max_calls: int = MAX_CALLS, max_bytes: int = MAX_CALL_BYTES) -> None:
        self._max_calls = max_calls
        self.max_item_bytes = MAX_OVERHEAD
        """The largest description that can be sent, in bytes."""
        self._by_number = LruCache[int, Call](max_calls, max_bytes)
        self._by_key: dict[Key, Call] = {}
        self.latest: dict[Names, Call] = {}
        """The call used last for each combination of names, and so the likeliest one for the next inference."""
        self._free: list[int] = []
        """Numbers whose description is empty."""
        self._last_number = 0
        self.touch = self._by_number.touch
        """`touch(call.number)` marks a call as used. It is a method of a dict: no Python call for each inference."""

    def get(self, key: Key) -> Call | None:
        call = self._by_key.get(key)
        if call is not None:
            self.touch(call.number)
            self.latest[call.key[0]] = call
        return call

    def define(self, key: Key, description: pb.Call, inputs: NormalInputs) -> tuple[Call, list[bytes]]:
        """A new call, and the items that describe it, which are sent before it is used.

        Raises InvalidArgument for a call that does not fit into a frame.
        """
        number = self._next_number()
        item = _define(number, description)
        call = Call(number, key, description, inputs)
        if len(item) > self.max_item_bytes or call.tensors > MAX_TENSORS:
            raise InvalidArgument(
                f"a call of model {quote(description.model)} has {call.tensors} inline inputs and takes {len(item)} "
                f"bytes to describe; the limits are {MAX_TENSORS} inputs and {self.max_item_bytes} bytes"
            )
        self._take(number)
        items = []
        for other, evicted in self._by_number.put(number, call, len(item)):
            self._forget(evicted)
            self._free.append(other)
            items.append(_define(other, pb.Call()))
        self._by_key[key] = self.latest[key[0]] = call
        return call, [*items, item]

    def _next_number(self) -> int:
        """A number that is free or new, or else that of the least recently used call."""
        if self._free:
            return self._free[-1]
        if self._last_number < self._max_calls:
            return self._last_number + 1
        return next(iter(self._by_number))

    def _take(self, number: int) -> None:
        replaced = self._by_number.pop(number)
        if replaced is not None:
            self._forget(replaced)
        elif self._free:
            self._free.pop()
        else:
            self._last_number = number

    def discard(self, call: Call) -> None:
        """Use this call no more. Its number is defined again once it is the least recently used one."""
        self._forget(call)

    def _forget(self, call: Call) -> None:
        """Remove a call from the indexes. What was already sent is not affected."""
        if self._by_key.get(call.key) is call:
            del self._by_key[call.key]
        if self.latest.get(call.key[0]) is call:
            del self.latest[call.key[0]]

    def __len__(self) -> int:
        return len(self._by_key)

    def __repr__(self) -> str:
        return f"<CallCache: {self._by_number!r}>"


def _define(number: int, description: pb.Call) -> bytes:
    command = pb.Command(kind=pb.Command.DEFINE, call=number, define=description)
    return pb.ClientFrame(commands=[command]).SerializeToString()
