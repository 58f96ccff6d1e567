"""BYTES: tensors whose elements are strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import openvino as ov

from headrace.server.engine.tensors import OutputTensor
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.tensors import Buffer, decode_bytes

MAX_CHUNK_ELEMENTS = 1024
"""Elements that are read at once, at most."""
CHUNK_BYTES = 32 << 20
"""Memory that they may take. The runtime takes and returns them in an array whose elements are all as long as the
longest, so one long string among a million short ones would take a million times its size."""


def string_input(name: str, data: Buffer, shape: tuple[int, ...]) -> ov.Tensor:
    """A tensor of the encoded elements.

    Raises InvalidArgument for an element that ends in a NUL byte, because the runtime would cut it off.
    """
    elements: list[bytes] = decode_bytes(data, shape).reshape(-1).tolist()
    if b"\0" in b"".join([element[-1:] for element in elements]):
        index = next(index for index, element in enumerate(elements) if element.endswith(b"\0"))
        raise InvalidArgument(
            f"input {quote(name)}: element {index} ends in a NUL byte, which the runtime would cut off"
        )
    if not elements:
        return ov.Tensor(ov.Type.string, ov.Shape(shape))
    tensor = ov.Tensor(ov.Type.string, ov.Shape([len(elements)]))
    if len(elements) * max(map(len, elements)) <= CHUNK_BYTES:
        tensor.bytes_data = elements
    else:
        for start, stop in _groups(elements):
            ov.Tensor(tensor, ov.Coordinate([start]), ov.Coordinate([stop])).bytes_data = elements[start:stop]
    tensor.shape = shape
    return tensor


def _groups(elements: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where groups of elements start and stop that take CHUNK_BYTES if all in a group are as long as its longest."""
    start = longest = 0
    for index, element in enumerate(elements):
        longer = max(longest, len(element))
        if index > start and (index + 1 - start) * longer > CHUNK_BYTES:
            yield start, index
            start, longer = index, len(element)
        longest = longer
    yield start, len(elements)


def string_output(tensor: ov.Tensor, input_bytes: int) -> OutputTensor:
    """A copy of the elements. `input_bytes` is the size of the inputs of strings: no element is taken to be longer."""
    shape = tuple(tensor.shape)
    return OutputTensor(Datatype.BYTES, shape, b"".join(_chunks(tensor, shape, CHUNK_BYTES // max(1, input_bytes))))


def _chunks(tensor: ov.Tensor, shape: tuple[int, ...], elements: int) -> list[bytes]:
    """The encoded elements, read in chunks of that many; but rows of the first axis are not divided."""
    if 0 in shape:
        return []
    elements = max(1, min(elements, MAX_CHUNK_ELEMENTS))
    if not shape or tensor.size <= elements:
        return [_encode(tensor)]
    chunks: list[bytes] = []
    step = max(1, elements * shape[0] // tensor.size)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        begin, end = [start] + [0] * (len(shape) - 1), [stop, *shape[1:]]
        chunks.append(_encode(ov.Tensor(tensor, ov.Coordinate(begin), ov.Coordinate(end))))
    return chunks


def _encode(tensor: ov.Tensor) -> bytes:
    elements = np.asarray(tensor.bytes_data)
    lengths = np.char.str_len(elements).ravel()
    width, octets = elements.dtype.itemsize, memoryview(elements.tobytes())
    prefixes = lengths.astype("<u4").tobytes()
    parts: list[Buffer] = []
    for number, length in enumerate(lengths.tolist()):
        parts += (prefixes[4 * number : 4 * number + 4], octets[number * width : number * width + length])
    return b"".join(parts)
