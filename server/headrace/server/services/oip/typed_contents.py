"""Tensors whose elements came one by one (`InferTensorContents`), as the bytes that raw contents would have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.oip import open_inference_pb2 as pb
from headrace.wire.dtypes import Datatype, numpy_dtype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.tensors import element_count, encode_bytes, to_wire

_FIELDS = {
    Datatype.BOOL: "bool_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
MAX_ELEMENTS = 1 << 22
"""Of an input: they are read one by one, 50 ns each, and everybody waits."""
_WIDE: dict[str, npt.DTypeLike] = {"int_contents": np.int32, "uint_contents": np.uint32}
"""What holds the elements of fields that smaller datatypes share."""


def has_contents(contents: pb.InferTensorContents) -> bool:
    """Whether it has any element."""
    return bool(contents.ListFields())


def contents_to_bytes(name: str, datatype: Datatype, shape: Sequence[int], contents: pb.InferTensorContents) -> bytes:
    """The bytes of the input `name`. Raises InvalidArgument for contents that do not fit datatype and shape."""
    what = f"input {quote(name)}"
    try:
        count = element_count(shape)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error.message}") from None
    filled = contents.ListFields()
    if not filled and not count:
        return b""
    field = _FIELDS.get(datatype)
    if field is None:
        raise InvalidArgument(f"{what}: {datatype.name} has no typed contents; send it in raw_input_contents")
    if len(filled) > 1:
        found = " and ".join(descriptor.name for descriptor, _ in filled)
        raise InvalidArgument(f"{what} has {found}; {datatype.name} takes {field} alone")
    if filled and filled[0][0].name != field:
        raise InvalidArgument(f"{what} has {filled[0][0].name}, where {datatype.name} takes {field}")
    elements: Sequence[Any] = filled[0][1] if filled else ()
    if len(elements) != count:
        wanted = f"where {datatype.name}{list(shape)} takes {count}"
        raise InvalidArgument(f"{what} has {len(elements)} elements in {field}, {wanted}")
    if count > MAX_ELEMENTS:
        more = f"{field} of at most {MAX_ELEMENTS} are taken; send it in raw_input_contents"
        raise InvalidArgument(f"{what} has {count} elements, {more}")
    array = np.fromiter(elements, _WIDE.get(field, numpy_dtype(datatype)), count)
    if datatype is Datatype.BYTES:
        return encode_bytes(array)
    return bytes(to_wire(_narrowed(what, datatype, array))[2])


def _narrowed(what: str, datatype: Datatype, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values in their datatype. Raises InvalidArgument for the first one that does not fit."""
    narrow = array.astype(numpy_dtype(datatype), copy=False)
    if narrow is not array and not np.array_equal(narrow, array):
        at = int((narrow != array).argmax())
        raise InvalidArgument(f"{what}: value {array[at]} of element {at} does not fit {datatype.name}")
    return narrow
