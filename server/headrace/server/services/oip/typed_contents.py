"""Converts typed contents (`InferTensorContents`), which list elements one by one, into the bytes of raw contents.

`contents_counts` bounds what there may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import BoundInline
from headrace.wire.dtypes import Datatype, numpy_dtype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.fields import fields
from headrace.wire.tensors import element_count, encode_bytes, to_wire
from headrace.wire.varints import decode_varints

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
_SHARED_FIELD_DTYPES: dict[str, npt.DTypeLike] = {"int_contents": np.int32, "uint_contents": np.uint32}
"""The dtypes of the fields that several datatypes share."""


def has_contents(contents: pb.InferTensorContents) -> bool:
    """Whether there are any elements."""
    return bool(contents.ListFields())


def contents_to_bytes(bound: BoundInline, contents: pb.InferTensorContents) -> bytes:
    """The bytes of an input. Raises InvalidArgument if the contents do not match its datatype and shape."""
    owner, datatype, shape = f"input {quote(bound.port.name)}", bound.port.datatype, bound.shape
    count = element_count(shape)
    filled = contents.ListFields()
    if not filled and not count:
        return b""
    field = _FIELDS.get(datatype)
    if field is None:
        raise InvalidArgument(f"{owner}: {datatype.name} has no typed contents; use raw_input_contents")
    if len(filled) > 1:
        fields = " and ".join(descriptor.name for descriptor, _ in filled)
        raise InvalidArgument(f"{owner} has {fields}; {datatype.name} uses only {field}")
    if filled and filled[0][0].name != field:
        raise InvalidArgument(f"{owner} has {filled[0][0].name}; {datatype.name} uses {field}")
    elements: Sequence[Any] = filled[0][1] if filled else ()
    if len(elements) != count:
        raise InvalidArgument(
            f"{owner} has {len(elements)} elements in {field}; {datatype.name}{list(shape)} takes {count}"
        )
    if datatype is Datatype.BYTES:
        return encode_bytes(np.fromiter(elements, np.object_, count))
    dtype = np.dtype(_SHARED_FIELD_DTYPES.get(field, numpy_dtype(datatype)))
    array = _numbers(contents, dtype) if count else np.empty(0, dtype)
    return bytes(to_wire(_narrow(owner, datatype, array))[2])


def _numbers(contents: pb.InferTensorContents, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The elements of the one field that is set.

    Reading them one by one would take 50 ns each. Protobuf writes them as one block of numbers, which NumPy reads.
    """
    contents.DiscardUnknownFields()
    data = contents.SerializeToString()
    ((_, start, _),) = fields(data, 0, len(data))
    if dtype.kind == "f":
        return np.frombuffer(data, dtype, offset=start)
    return decode_varints(data[start:]).astype(dtype, copy=False)


def _narrow(owner: str, datatype: Datatype, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values in the dtype of their datatype. Raises InvalidArgument for the first one that does not fit."""
    narrow = array.astype(numpy_dtype(datatype), copy=False)
    if narrow is not array and not np.array_equal(narrow, array):
        at = int((narrow != array).argmax())
        raise InvalidArgument(f"{owner}: element {at} is {array[at]}, which does not fit in {datatype.name}")
    return narrow
