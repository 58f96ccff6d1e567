"""Typed contents are converted to the bytes of raw contents."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import BoundInline
from headrace.server.core.specs import Port
from headrace.server.services.oip.typed_contents import contents_to_bytes, has_contents
from headrace.wire.dtypes import Datatype, numpy_dtype
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import encode_bytes

VALUES: list[tuple[Datatype, str, list[Any]]] = [
    (Datatype.BOOL, "bool_contents", [True, False, True]),
    (Datatype.UINT8, "uint_contents", [0, 1, 255]),
    (Datatype.UINT16, "uint_contents", [0, 1, 2**16 - 1]),
    (Datatype.UINT32, "uint_contents", [0, 1, 2**32 - 1]),
    (Datatype.UINT64, "uint64_contents", [0, 1, 2**64 - 1]),
    (Datatype.INT8, "int_contents", [-128, -1, 127]),
    (Datatype.INT16, "int_contents", [-(2**15), -1, 2**15 - 1]),
    (Datatype.INT32, "int_contents", [-(2**31), -1, 2**31 - 1]),
    (Datatype.INT64, "int64_contents", [-(2**63), -1, 2**63 - 1]),
    (Datatype.FP32, "fp32_contents", [-0.0, 0.1, float("inf")]),
    (Datatype.FP64, "fp64_contents", [-0.0, 0.1, float("nan")]),
]


def contents(**fields: Any) -> pb.InferTensorContents:
    return pb.InferTensorContents(**fields)


def convert(datatype: Datatype, shape: tuple[int, ...], typed: pb.InferTensorContents) -> bytes:
    return contents_to_bytes(BoundInline(Port(0, ("x",), datatype, None), shape, None), typed)


@pytest.mark.parametrize(("datatype", "field", "values"), VALUES, ids=lambda each: getattr(each, "name", None))
def test_each_datatype_has_a_field(datatype: Datatype, field: str, values: list[Any]) -> None:
    typed = contents(**{field: values})
    assert has_contents(typed)
    assert convert(datatype, (1, 3), typed) == np.array(values, numpy_dtype(datatype)).tobytes()


def test_each_bytes_element_follows_its_length() -> None:
    typed = contents(bytes_contents=[b"one", b"", b"\xff\0"])
    expected = b"\x03\0\0\0one\0\0\0\0\x02\0\0\0\xff\0"
    assert convert(Datatype.BYTES, (3,), typed) == expected
    assert expected == encode_bytes(np.array([b"one", b"", b"\xff\0"], np.object_))


def test_a_scalar_has_one_element() -> None:
    assert convert(Datatype.INT32, (), contents(int_contents=[7])) == b"\x07\0\0\0"


@pytest.mark.parametrize("datatype", Datatype, ids=lambda datatype: datatype.name)
def test_an_empty_tensor_has_no_contents(datatype: Datatype) -> None:
    assert not has_contents(contents())
    assert convert(datatype, (2, 0), contents()) == b""


@pytest.mark.parametrize(
    ("datatype", "shape", "fields", "message"),
    [
        (
            Datatype.FP16,
            (1,),
            {"fp32_contents": [1.0]},
            "input 'x': FP16 has no typed contents; use raw_input_contents",
        ),
        (Datatype.BF16, (1,), {}, "input 'x': BF16 has no typed contents; use raw_input_contents"),
        (
            Datatype.FP32,
            (1,),
            {"fp64_contents": [1.0]},
            "input 'x' has fp64_contents; FP32 uses fp32_contents",
        ),
        (Datatype.FP32, (0,), {"int_contents": [1]}, "input 'x' has int_contents; FP32 uses fp32_contents"),
        (
            Datatype.INT8,
            (1,),
            {"int_contents": [1], "uint_contents": [1]},
            "input 'x' has int_contents and uint_contents; INT8 uses only int_contents",
        ),
        (
            Datatype.INT32,
            (2, 2),
            {"int_contents": [1, 2, 3]},
            "input 'x' has 3 elements in int_contents; INT32[2, 2] takes 4",
        ),
        (Datatype.BYTES, (2,), {}, "input 'x' has 0 elements in bytes_contents; BYTES[2] takes 2"),
        (Datatype.INT8, (2,), {"int_contents": [1, 128]}, "input 'x': element 1 is 128, which does not fit in INT8"),
        (Datatype.INT8, (1,), {"int_contents": [-129]}, "input 'x': element 0 is -129, which does not fit in INT8"),
        (Datatype.INT16, (1,), {"int_contents": [2**15]}, "input 'x': element 0 is 32768, which does not fit in INT16"),
        (Datatype.UINT8, (1,), {"uint_contents": [256]}, "input 'x': element 0 is 256, which does not fit in UINT8"),
        (
            Datatype.UINT16,
            (1,),
            {"uint_contents": [2**32 - 1]},
            "input 'x': element 0 is 4294967295, which does not fit in UINT16",
        ),
    ],
)
def test_contents_that_do_not_match_datatype_and_shape_are_refused(
    datatype: Datatype, shape: tuple[int, ...], fields: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(message)}$"):
        convert(datatype, shape, contents(**fields))


def test_a_huge_shape_allocates_nothing() -> None:
    with pytest.raises(InvalidArgument, match=rf"has 1 elements in fp64_contents; FP64\[{2**59}\] takes {2**59}$"):
        convert(Datatype.FP64, (2**59,), contents(fp64_contents=[1.0]))


def test_unknown_fields_are_not_contents() -> None:
    unknown = pb.InferTensorContents.FromString(b"\x7a\x01x")
    assert not has_contents(unknown)
    assert convert(Datatype.FP32, (0,), unknown) == b""


@pytest.mark.parametrize(
    "packed", [b"\x2a\x06\x80\x00\x81\x80\x00\x02", b"\x28\x00\x28\x01\x2a\x01\x02", b"\x2a\x02\x00\x01\x2a\x01\x02"]
)
def test_numbers_may_be_written_in_every_way_that_protobuf_reads(packed: bytes) -> None:
    """With more bytes than they need, one by one, and in several blocks; with an unknown field beside them."""
    typed = pb.InferTensorContents.FromString(b"\x7a\x01x" + packed)
    assert convert(Datatype.UINT64, (3,), typed) == np.arange(3, dtype=np.uint64).tobytes()
