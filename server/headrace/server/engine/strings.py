"""BYTES: tensors whose elements are strings of the runtime."""

from __future__ import annotations

import numpy as np
import openvino as ov

from headrace.server.engine.tensors import OutputTensor
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.tensors import Buffer, decode_bytes, encode_bytes

PIECE = 64
"""Elements that are read at once. The runtime shows them in an array whose elements are all as long as the longest one,
so that one long string among a million short ones would take a million times its size."""


def string_input(name: str, data: Buffer, shape: tuple[int, ...]) -> ov.Tensor:
    """A tensor of the elements.

    Raises InvalidArgument for an element that ends in NUL, which the runtime would cut off.
    """
    elements: list[bytes] = decode_bytes(data, shape).reshape(-1).tolist()
    for index, element in enumerate(elements):
        if element.endswith(b"\0"):
            raise InvalidArgument(f"input {quote(name)}: element {index} ends in NUL, which the runtime does not keep")
    tensor = ov.Tensor(ov.Type.string, ov.Shape(shape))
    if elements:
        tensor.bytes_data = elements
    return tensor


def string_output(tensor: ov.Tensor) -> OutputTensor:
    """The elements, copied."""
    shape = tuple(tensor.shape)
    return OutputTensor(Datatype.BYTES, shape, b"".join(_pieces(tensor, shape)))


def _pieces(tensor: ov.Tensor, shape: tuple[int, ...]) -> list[bytes]:
    if 0 in shape:
        return []
    if not shape or tensor.size <= PIECE:
        return [_encode(tensor)]
    pieces: list[bytes] = []
    step = max(1, PIECE * shape[0] // tensor.size)
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        begin, end = [start] + [0] * (len(shape) - 1), [stop, *shape[1:]]
        pieces.append(_encode(ov.Tensor(tensor, ov.Coordinate(begin), ov.Coordinate(end))))
    return pieces


def _encode(tensor: ov.Tensor) -> bytes:
    return encode_bytes(np.asarray(tensor.bytes_data).astype(object))
