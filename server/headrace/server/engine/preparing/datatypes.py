"""The runtime's types by the names of datatypes of the Open Inference Protocol."""

from __future__ import annotations

import openvino as ov

from headrace.wire.errors import quote

_TYPES = {
    "BOOL": ov.Type.boolean,
    "UINT8": ov.Type.u8,
    "UINT16": ov.Type.u16,
    "UINT32": ov.Type.u32,
    "UINT64": ov.Type.u64,
    "INT8": ov.Type.i8,
    "INT16": ov.Type.i16,
    "INT32": ov.Type.i32,
    "INT64": ov.Type.i64,
    "FP16": ov.Type.f16,
    "FP32": ov.Type.f32,
    "FP64": ov.Type.f64,
    "BF16": ov.Type.bf16,
}


def element_type(datatype: str) -> ov.Type:
    """Raises ValueError for a name that is not a datatype of numbers."""
    found = _TYPES.get(datatype.upper())
    if found is None:
        raise ValueError(f"{quote(datatype)} is not a datatype of numbers: use one of {', '.join(_TYPES)}")
    return found
