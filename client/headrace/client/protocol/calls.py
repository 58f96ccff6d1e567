"""The calls of a stream: what repeats from inference to inference, described once and used by number. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headrace.client.protocol.call import Arrays, Call
from headrace.client.protocol.inputs import Inputs, Normal, Reference, Zeros
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_of
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.frames import MAX_OVERHEAD, MAX_TENSORS

MAX_CALLS = 1024
"""Numbers that a stream may use."""
MAX_CALL_BYTES = 4 << 20
"""Descriptions that a stream may have given, as serialised."""
Names = tuple[str, str | None, tuple[str, ...] | None, tuple[str, ...]]
"""Model, version, outputs, keep."""
Key = tuple[Names, tuple[object, ...]]
"""What makes two inferences the same call; of parts that are cheap to build and to compare."""


def signature(names: Names, inputs: Inputs) -> tuple[Key, Arrays, list[Reference]]:
    """The key of an inference, its inline inputs, its references; in the order of `inputs`."""
    key: list[object] = []
    arrays: Arrays = []
    references: list[Reference] = []
    for name, value in inputs.items():
        if type(value) is np.ndarray:
            key += (name, value.dtype, value.shape)
            arrays.append(value)
        elif type(value) is Reference:
            key += (name, value.output, value.take)
            references.append(value)
        elif type(value) is Zeros:
            key += (name, value)
        else:
            array = np.asarray(value)
            key += (name, array.dtype, array.shape)
            arrays.append(array)
    return (names, tuple(key)), arrays, references


def describe(
    model: str,
    version: str | None,
    inputs: Inputs,
    outputs: Sequence[str] | None,
    keep: Sequence[str] = (),
) -> pb.Call:
    """The description that the server gets. The inputs are normalised."""
    for what, names in (("outputs", outputs), ("keep", keep)):
        if isinstance(names, str):
            raise TypeError(f"{what} is a list of names, not one name: [{names!r}]")
    call = pb.Call(model=model, version=version or "", keep=keep)
    if outputs is None:
        call.all_outputs = True
    else:
        call.outputs.extend(outputs)
    for name, value in inputs.items():
        if isinstance(value, Reference):
            reference = pb.Reference(output=value.output, take=value.take)
            call.inputs.add(name=name, reference=reference)
        elif isinstance(value, Zeros):
            zeros = pb.Zeros(datatype=_datatype(value.dtype), shape=value.shape)
            call.inputs.add(name=name, zeros=zeros)
        else:
            array = np.asarray(value)
            inline = pb.Inline(datatype=_datatype(array.dtype), shape=array.shape)
            call.inputs.add(name=name, inline=inline)
    return call


def _datatype(dtype: np.dtype[Any]) -> pb.Datatype.ValueType:
    return pb.Datatype.ValueType(datatype_of(dtype))


class Calls:
    """The calls of a stream by key, within the bounds of the contract."""

    def __init__(self, most: int = MAX_CALLS, most_bytes: int = MAX_CALL_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.most_item = MAX_OVERHEAD
        """Bytes of a description as it is sent."""
        self._calls: dict[Key, Call] = {}
        self.latest: dict[Names, Call] = {}
        """For names, the call that was asked for last: the likeliest for what comes next."""
        self._free: list[int] = []
        self._sizes: dict[int, int] = {}
        """Bytes of the description that the server holds, for each number that was ever defined."""

    def get(self, key: Key) -> Call | None:
        call = self._calls.get(key)
        if call is not None:
            self.latest[key[0]] = call
        return call

    def define(self, key: Key, description: pb.Call, inputs: Normal) -> tuple[Call, list[bytes]]:
        """A new call, and the items that describe it, to be sent before it is used.

        Raises InvalidArgument for what does not fit into a frame.
        """
        number = self._number()
        item = _define(number, description)
        call = Call(number, description, inputs)
        if len(item) > self.most_item or call.tensors > MAX_TENSORS:
            self._free.append(number)
            raise InvalidArgument(
                f"a call of model {quote(description.model)} has {call.tensors} inline inputs and "
                f"takes {len(item)} bytes to describe; the most are {MAX_TENSORS} and "
                f"{self.most_item}"
            )
        self._sizes[number] = 0
        items = [*self._shrink(self._most_bytes - len(item)), item]
        self._sizes[number] = len(item)
        self._calls[key] = self.latest[key[0]] = call
        return call, items

    def _number(self) -> int:
        if not self._free:
            if len(self._sizes) < self._most:
                number = len(self._sizes) + 1
                self._sizes[number] = 0
                return number
            self._forget()
        return self._free.pop()

    def _forget(self) -> None:
        """Free an eighth of the numbers: those that were used least lately.

        Many at once, since finding them takes a look at all. What was sent before is not affected.
        """
        oldest = sorted(self._calls, key=lambda key: self._calls[key].used)
        for key in oldest[: max(1, self._most // 8)]:
            call = self._calls.pop(key)
            self._free.append(call.number)
            if self.latest.get(key[0]) is call:
                del self.latest[key[0]]

    def _shrink(self, most_bytes: int) -> Iterator[bytes]:
        """Describe free numbers as nothing until what the server holds is at most `most_bytes`."""
        excess = sum(self._sizes.values()) - most_bytes
        while excess > 0:
            number = next((number for number in self._free if self._sizes[number]), None)
            if number is None:
                self._forget()
                continue
            excess -= self._sizes[number]
            self._sizes[number] = 0
            yield _define(number, pb.Call())

    def __len__(self) -> int:
        return len(self._calls)


def _define(number: int, description: pb.Call) -> bytes:
    command = pb.Command(kind=pb.Command.DEFINE, call=number, define=description)
    return pb.ClientFrame(commands=[command]).SerializeToString()
