"""BYTES: tensors whose elements are strings."""

from __future__ import annotations

import numpy as np
import openvino as ov

from headrace.server.engine.tensors import OutputTensor
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.tensors import Buffer, decode_bytes, encode_bytes

CHUNK_ELEMENTS = 64
"""Elements that are read at once. The runtime returns them in an array whose elements are all as long as the longest,
so one long string among a million short ones would take a million times its size."""


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
    tensor = ov.Tensor(ov.Type.string, ov.Shape(shape))
    if elements:
        tensor.bytes_data = elements
    return tensor


def string_output(tensor: ov.Tensor) -> OutputTensor:
    """A copy of the elements."""
    shape = tuple(tensor.shape)
    return OutputTensor(Datatype.BYTES, shape, b"".join(_chunks(tensor, shape)))


def _chunks(tensor: ov.Tensor, shape: tuple[int, ...]) -> list[bytes]:
    if 0 in shape:
        return []
    if not shape or tensor.size <= CHUNK_ELEMENTS:
        return [_encode(tensor)]
    chunks: list[bytes] = []
    step = max(1, CHUNK_ELEMENTS * shape[0] // tensor.size)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        begin, end = [start] + [0] * (len(shape) - 1), [stop, *shape[1:]]
        chunks.append(_encode(ov.Tensor(tensor, ov.Coordinate(begin), ov.Coordinate(end))))
    return chunks


def _encode(tensor: ov.Tensor) -> bytes:
    return encode_bytes(np.asarray(tensor.bytes_data).astype(object))
