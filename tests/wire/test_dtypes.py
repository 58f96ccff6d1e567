"""Datatypes: the contract's, and their NumPy dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import ITEMSIZE, Datatype, datatype_from, datatype_of, numpy_dtype
from headrace.wire.errors import InvalidArgument

SIZES = {1: "BOOL UINT8 INT8", 2: "UINT16 INT16 FP16 BF16", 4: "UINT32 INT32 FP32", 8: "UINT64 INT64 FP64", 0: "BYTES"}


def test_names_and_numbers_equal_those_of_the_contract() -> None:
    numbers = dict(pb.Datatype.items())
    assert numbers.pop("DATATYPE_UNSPECIFIED") == 0
    assert {datatype.name: int(datatype) for datatype in Datatype} == numbers


@pytest.mark.parametrize("datatype", Datatype, ids=lambda datatype: datatype.name)
def test_a_datatype_survives_the_way_to_numpy_and_back(datatype: Datatype) -> None:
    assert datatype_of(numpy_dtype(datatype)) is datatype
    assert datatype_of(numpy_dtype(datatype).newbyteorder(">")) is datatype
    assert datatype_from(int(datatype)) is datatype


def test_each_datatype_has_its_element_size() -> None:
    assert {Datatype[name]: size for size, names in SIZES.items() for name in names.split()} == ITEMSIZE


def test_numpy_dtypes_map_to_their_datatypes() -> None:
    assert numpy_dtype(Datatype.BF16) == ml_dtypes.bfloat16
    assert numpy_dtype(Datatype.FP16) == np.float16
    assert numpy_dtype(Datatype.BYTES) == np.object_
    assert datatype_of(np.dtype("U7")) is datatype_of(np.dtype("S7")) is Datatype.BYTES
    assert datatype_of(np.dtype(np.longlong)) is Datatype.INT64
    assert datatype_of(np.dtype(np.intc)) is Datatype.INT32


@pytest.mark.parametrize("number", [0, 15, -1, 2**31 - 1])
def test_an_unknown_number_is_refused(number: int) -> None:
    with pytest.raises(InvalidArgument, match=f"datatype number {number} is unknown"):
        datatype_from(number)


@pytest.mark.parametrize("dtype", [np.complex64, ml_dtypes.float8_e4m3fn, "M8[s]", np.longdouble], ids=str)
def test_a_dtype_without_a_datatype_is_refused(dtype: str) -> None:
    with pytest.raises(InvalidArgument, match=str(np.dtype(dtype))[:5]):
        datatype_of(np.dtype(dtype))
