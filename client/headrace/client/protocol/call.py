"""A call: what inferences have in common, and the template of their commands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.client.protocol.call_description import Arrays, Key
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, Zeros, fixed_size
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import timeout_us
from headrace.wire.errors import quote
from headrace.wire.frames import FRAME_BYTES, join_frame, tensor_header
from headrace.wire.limits import MAX_SOURCE_SLICES
from headrace.wire.tensors import to_wire

SMALL_BYTES = 16 << 10
"""Total bytes of tensors up to which a template holds the tensors of an Infer too."""
TENSOR_COST = 64
"""Bytes that a tensor counts in a frame in addition to its own.

More than its header takes, so that a frame closed at FRAME_BYTES never holds more than MAX_TENSORS.
"""

SLICE_COST = FRAME_BYTES // MAX_SOURCE_SLICES
"""Bytes that a slice of a source counts in a frame, and a source once more: as many as a frame may have fill it."""

_HOLE = b"the hole"
"""Eight bytes that mark where a template is filled in."""
_to_bytes = np.ndarray.tobytes
_ndarray = np.ndarray


class Call:
    """A description that the server knows by `number`, and the template of the commands that use it.

    The template has holes for the tag (for this reason tags have a fixed width), the tags of the sources, and the bytes
    of small tensors. Filling it takes a fifth of the time that building and serializing a message takes.
    """

    __slots__ = (
        "_count",
        "_fixed",
        "_inline_inputs",
        "_sizes",
        "_small",
        "_sources",
        "_template",
        "_zeros",
        "cost",
        "keep",
        "key",
        "model",
        "number",
        "options",
        "outputs",
        "tensors",
    )

    def __init__(self, number: int, key: Key, description: pb.Call, inputs: NormalInputs) -> None:
        self.number = number
        self.key = key
        self.model = description.model
        self.outputs = None if description.all_outputs else tuple(description.outputs)
        self.keep = (*description.keep, *description.keep_inputs)
        """What is kept: outputs, and then inputs."""
        self._sources: list[tuple[str, str, bool]] = []
        self._inline_inputs: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = []
        self._zeros: list[tuple[str, Zeros]] = []
        self._sizes: list[int | None] = []
        for name, value in inputs.items():
            if isinstance(value, Reference):
                self._sources.append((name, value.output, value.take))
            elif isinstance(value, Zeros):
                self._zeros.append((name, value))
            else:
                self._inline_inputs.append((name, value.dtype, value.shape))
                self._sizes.append(fixed_size(value))
        self.tensors = len(self._sizes)
        self._fixed = None not in self._sizes
        self._small = self._fixed and sum(size or 0 for size in self._sizes) <= SMALL_BYTES
        self._count = len(inputs) if self._small else -1
        """The number of inputs, or -1 if they are not small."""
        self.set_options(None, 0)

    def set_options(self, timeout: float | None, priority: int) -> None:
        """Make the template for these options. Most programs never change them.

        Raises ValueError for a value outside the contract.
        """
        hole = int.from_bytes(_HOLE, "little")
        command = self._command(hole, [hole] * len(self._sources), timeout, priority)
        item = pb.ClientFrame(commands=[command]).SerializeToString()
        self.options = timeout, priority
        self.cost = len(item) + sum(TENSOR_COST + (size or 0) for size in self._sizes)
        """The most bytes that an item of this call takes in a frame, not counting the elements of BYTES."""
        if self._small:
            item += b"".join(tensor_header(size or 0) + _HOLE for size in self._sizes)
        self._template = item.replace(b"%", b"%%").replace(_HOLE, b"%b")

    def match_and_fill(self, tag: int, inputs: Inputs, stream: object) -> bytes | None:
        """The item for small inputs that plainly match this call, or None if they have to be compared by key.

        Almost every Infer matches: the same arrays with other numbers in them. This takes half the time of building the
        key of the call, looking it up, and filling the template.
        """
        if len(inputs) != self._count:
            return None
        holes = [tag.to_bytes(8, "little")]
        value: Any
        for name, output, take in self._sources:
            value = inputs.get(name)
            if type(value) is not Reference or value.stream is not stream:
                return None
            if value.output != output or value.take is not take or value.slices:
                return None
            holes.append(value.tag.to_bytes(8, "little"))
        for name, dtype, shape in self._inline_inputs:
            value = inputs.get(name)
            if type(value) is not _ndarray or value.dtype is not dtype or value.shape != shape:
                return None
            holes.append(value.tobytes())
        for name, zeros in self._zeros:
            value = inputs.get(name)
            if type(value) is not Zeros or value != zeros:
                return None
        return self._template % tuple(holes)

    def fill(self, tag: int, arrays: Arrays, references: Sequence[Reference]) -> tuple[bytes, int]:
        """The Infer with its tensors, as an item of a frame, and its cost in bytes.

        Copies the arrays. A large item becomes a message of its own, so this is the only copy that the client makes.
        Raises InvalidArgument for an element of BYTES that is neither str nor bytes.
        """
        filling: tuple[bytes, ...] = (tag.to_bytes(8, "little"),)
        if references:
            for reference in references:
                if reference.slices:
                    return self._fill_sliced(tag, arrays, references)
            filling += tuple([reference.tag.to_bytes(8, "little") for reference in references])
        if self._small:
            return self._template % (*filling, *map(_to_bytes, arrays)), self.cost
        tensors = [to_wire(array)[2] for array in arrays]
        item = join_frame(self._template % filling, tensors)
        return item, self.cost + (0 if self._fixed else sum(map(len, tensors)))

    def _fill_sliced(self, tag: int, arrays: Arrays, references: Sequence[Reference]) -> tuple[bytes, int]:
        """The same for slices of sources, for which the template has no place."""
        timeout, priority = self.options
        command = self._command(tag, [reference.tag for reference in references], timeout, priority)
        command.kind = pb.Command.INFER_SLICES
        count = len(references)
        for reference in references:
            slices = command.slices.add().slices
            count += len(reference.slices)
            for start, stop in reference.slices:
                slices.add(start=start, stop=stop)
        tensors = [to_wire(array)[2] for array in arrays]
        item = join_frame(pb.ClientFrame(commands=[command]).SerializeToString(), tensors)
        return item, len(item) + TENSOR_COST * len(tensors) + SLICE_COST * count

    def _command(self, tag: int, sources: Sequence[int], timeout: float | None, priority: int) -> pb.Command:
        return pb.Command(
            tag=tag,
            call=self.number,
            tensors=self.tensors,
            timeout_us=timeout_us(timeout),
            priority=priority,
            sources=sources,
        )

    def __repr__(self) -> str:
        return f"<Call {self.number} of model {quote(self.model)}>"
