"""Calls: what repeats from inference to inference, described once and used by number. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.inputs import Inputs, Reference, Zeros, fixed_size
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_of
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.frames import MAX_OVERHEAD, MAX_TENSORS, join_frame, tensor_header
from headrace.wire.tensors import to_wire

MAX_CALLS = 1024
"""Numbers that a stream may use."""
MAX_CALL_BYTES = 4 << 20
"""Descriptions that a stream may have given, as serialised."""
SMALL_BYTES = 16 << 10
"""Up to this size of an Infer its template holds its tensors too."""
TENSOR_COST = 64
"""What a tensor counts in a frame besides its bytes.

More than its header takes, so that a frame closed at FRAME_BYTES never holds more than MAX_TENSORS.
"""

_HERE = b"the hole"
"""Eight bytes that stand for what is filled in."""
_to_bytes = np.ndarray.tobytes

Arrays = list[npt.NDArray[Any]]
Key = tuple[object, ...]
"""What makes two inferences the same call; of parts that are cheap to build and to compare."""


def signature(
    model: str,
    version: str | None,
    inputs: Inputs,
    outputs: Sequence[str] | None,
    keep: Sequence[str],
) -> tuple[Key, Arrays, list[Reference]]:
    """The key of an inference, its inline inputs, its references; in the order of `inputs`."""
    key: list[object] = [model, version, None if outputs is None else tuple(outputs), tuple(keep)]
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
    return tuple(key), arrays, references


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


class Call:
    """A description that the server knows by `number`, and what its commands have in common.

    Such a command is a template with holes for its tag (which is what tags of a fixed width are
    for), its sources, and the bytes of small tensors. Filling it takes a fifth of the time that
    building and serialising a message takes.
    """

    __slots__ = (
        "_fixed",
        "_references",
        "_sizes",
        "_small",
        "_template",
        "cost",
        "keep",
        "model",
        "number",
        "options",
        "outputs",
        "used",
    )

    def __init__(self, number: int, description: pb.Call, arrays: Arrays, references: int) -> None:
        self.number = number
        self.model = description.model
        self.outputs = None if description.all_outputs else tuple(description.outputs)
        self.keep = tuple(description.keep)
        self.used = 0
        """The last tag: what was used least lately makes room for new calls."""
        self._references = references
        self._sizes = [fixed_size(array) for array in arrays]
        self._fixed = None not in self._sizes
        self._small = self._fixed and sum(size or 0 for size in self._sizes) <= SMALL_BYTES
        self.set_options(0, 0)

    def set_options(self, timeout_us: int, priority: int) -> None:
        """Make the template for these, until others come: most programs never change them."""
        command = pb.Command(
            tag=int.from_bytes(_HERE, "little"),
            call=self.number,
            tensors=len(self._sizes),
            timeout_us=timeout_us,
            priority=priority,
            sources=[int.from_bytes(_HERE, "little")] * self._references,
        )
        item = pb.ClientFrame(commands=[command]).SerializeToString()
        self.options = timeout_us, priority
        self.cost = len(item) + sum(TENSOR_COST + (size or 0) for size in self._sizes)
        """Bytes that an item of this call takes in a frame, at most; without those of BYTES."""
        if self._small:
            item += b"".join(tensor_header(size or 0) + _HERE for size in self._sizes)
        self._template = item.replace(b"%", b"%%").replace(_HERE, b"%b")

    def item(self, tag: int, arrays: Arrays, references: Sequence[Reference]) -> tuple[bytes, int]:
        """The Infer with its tensors, as a piece of a frame, and its cost.

        The arrays are copied here. A large item travels alone and is the message then, so this is
        the only copy that the client makes of it. Raises InvalidArgument for an element of BYTES
        that is neither str nor bytes.
        """
        filling: tuple[bytes, ...] = (tag.to_bytes(8, "little"),)
        if references:
            filling += tuple([reference.tag.to_bytes(8, "little") for reference in references])
        if self._small:
            return self._template % (*filling, *map(_to_bytes, arrays)), self.cost
        tensors = [to_wire(array)[2] for array in arrays]
        item = join_frame(self._template % filling, tensors)
        return item, self.cost + (0 if self._fixed else sum(map(len, tensors)))

    def __repr__(self) -> str:
        return f"<Call {self.number} of model {quote(self.model)}>"


class Calls:
    """The calls of a stream by key, within the bounds of the contract."""

    def __init__(self, most: int = MAX_CALLS, most_bytes: int = MAX_CALL_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.most_item = MAX_OVERHEAD
        """Bytes of a description as it is sent."""
        self._calls: dict[Key, Call] = {}
        self.get = self._calls.get
        self._free: list[int] = []
        self._sizes: dict[int, int] = {}
        """Bytes of the description that the server holds, for each number that was ever defined."""

    def define(
        self,
        key: Key,
        description: pb.Call,
        arrays: Arrays,
        references: int,
    ) -> tuple[Call, list[bytes]]:
        """A new call, and the items that describe it, to be sent before it is used.

        Raises InvalidArgument for what does not fit into a frame.
        """
        number = self._number()
        item = _define(number, description)
        if len(item) > self.most_item or len(arrays) > MAX_TENSORS:
            self._free.append(number)
            raise InvalidArgument(
                f"a call of model {quote(description.model)} has {len(arrays)} inline inputs and "
                f"takes {len(item)} bytes to describe; the most are {MAX_TENSORS} and "
                f"{self.most_item}"
            )
        self._sizes[number] = 0
        items = [*self._shrink(self._most_bytes - len(item)), item]
        self._sizes[number] = len(item)
        call = self._calls[key] = Call(number, description, arrays, references)
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
            self._free.append(self._calls.pop(key).number)

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
