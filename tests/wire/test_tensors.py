"""Tensors survive the way into bytes and back."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.wire.dtypes import ITEMSIZE, Datatype, numpy_dtype
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import (
    MAX_RANK,
    byte_count,
    check_bytes,
    decode_bytes,
    element_count,
    encode_bytes,
    from_wire,
    sliced_shape,
    to_wire,
)

NUMERIC = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def values(datatype: Datatype, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Random bytes as values, because every bit pattern matters; booleans are 0 or 1."""
    random = np.random.default_rng(7)
    raw = random.integers(0, 2 if datatype is Datatype.BOOL else 256, byte_count(datatype, shape), np.uint8)
    return raw.view(numpy_dtype(datatype)).reshape(shape)


class TestRoundTrip:
    @pytest.mark.parametrize("datatype", NUMERIC, ids=lambda datatype: datatype.name)
    @pytest.mark.parametrize("shape", [(), (1,), (0,), (3,), (2, 3, 4), (2, 0, 4), (1,) * 20], ids=str)
    def test_every_datatype_and_shape_survives(self, datatype: Datatype, shape: tuple[int, ...]) -> None:
        array = values(datatype, shape)
        found, found_shape, data = to_wire(array)
        assert (found, found_shape) == (datatype, shape)
        assert (data.format, data.ndim) == ("B", 1)
        assert len(data) == byte_count(datatype, shape)
        assert bytes(data) == array.tobytes()
        back = from_wire(bytes(data), datatype, shape)
        assert (back.dtype, back.shape) == (numpy_dtype(datatype), shape)
        assert back.tobytes() == array.tobytes()

    @given(st.sampled_from(NUMERIC), shapes, st.data())
    def test_any_memory_layout_survives(self, datatype: Datatype, shape: tuple[int, ...], data: st.DataObject) -> None:
        array = values(datatype, shape)
        if shape:
            array = array.transpose(data.draw(st.permutations(range(len(shape)))))
            array = array[tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
        found, found_shape, raw = to_wire(array)
        assert (found, found_shape) == (datatype, array.shape)
        assert bytes(raw) == array.tobytes()

    @pytest.mark.parametrize("code", ["u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8"])
    def test_either_byte_order_survives(self, code: str) -> None:
        small = np.arange(6, dtype=f"<{code}").reshape(2, 3)
        big = small.astype(f">{code}")
        assert to_wire(big)[0] is to_wire(small)[0]
        assert bytes(to_wire(big)[2]) == small.tobytes()
        assert bytes(to_wire(big[:, ::-1])[2]) == small[:, ::-1].tobytes()

    def test_the_bytes_are_little_endian(self) -> None:
        assert bytes(to_wire(np.array([1, 258], np.uint32))[2]) == b"\1\0\0\0\2\1\0\0"
        assert bytes(to_wire(np.array([True, False]))[2]) == b"\1\0"
        assert bytes(to_wire(np.array(1, ml_dtypes.bfloat16))[2]) == b"\x80\x3f"

    def test_contiguous_arrays_are_not_copied(self) -> None:
        array = np.arange(12, dtype=np.float32).reshape(3, 4)
        _, _, data = to_wire(array)
        array[1, 1] = 99
        assert from_wire(data, Datatype.FP32, (3, 4))[1, 1] == 99
        assert np.shares_memory(from_wire(data, Datatype.FP32, (3, 4)), array)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_a_received_array_is_read_only(self, kind: type) -> None:
        array = from_wire(kind(bytearray(8)), Datatype.FP32, (2,))
        assert not array.flags.writeable

    def test_lists_and_numbers_become_arrays(self) -> None:
        assert to_wire([1, 2])[:2] == (Datatype.INT64, (2,))
        assert to_wire(2.5)[:2] == (Datatype.FP64, ())
        assert to_wire("text")[:2] == (Datatype.BYTES, ())

    @pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "V4", "f4,i4"])
    def test_a_dtype_without_a_datatype_is_refused(self, dtype: str) -> None:
        with pytest.raises(InvalidArgument, match="has no datatype on the wire"):
            to_wire(np.zeros(2, dtype))


class TestFromWire:
    @pytest.mark.parametrize(
        ("size", "shape"),
        [
            (0, (0, 2**62)),
            (0, (2**70, 0)),
            (15, (4,)),
            (17, (4,)),
            (16, (5,)),
            (16, (-1,)),
            (0, (-1, 0)),
            (16, (2**62, 2**62)),
            (4, (1,) * 33),
            (3, ()),
        ],
        ids=str,
    )
    def test_any_size_and_shape_raises_nothing_but_invalid_argument(self, size: int, shape: tuple[int, ...]) -> None:
        for datatype in (Datatype.FP32, Datatype.BYTES):
            with pytest.raises(InvalidArgument):
                from_wire(bytes(size), datatype, shape)

    def test_a_wrong_size_is_named(self) -> None:
        with pytest.raises(InvalidArgument, match=r"15 bytes were given, but FP32\[4\] takes 16"):
            from_wire(bytes(15), Datatype.FP32, (4,))


class TestCounts:
    @given(st.lists(st.integers(0, 2**19), max_size=3))
    def test_elements_and_bytes_of_a_shape_are_counted(self, shape: list[int]) -> None:
        count = 1
        for size in shape:
            count *= size
        assert element_count(shape) == count
        for datatype in NUMERIC:
            assert byte_count(datatype, shape) == count * ITEMSIZE[datatype]
        assert byte_count(Datatype.BYTES, shape) is None

    @pytest.mark.parametrize(
        ("shape", "why"),
        [
            ((-1,), "negative dimension -1"),
            ((0, -5), "negative dimension -5"),
            ((2**62, 2), "overflow"),
            ((2**60,), "overflow"),
            ((2**31, 2**31, 2**31), "overflow"),
            ((0, 2**62), "overflow"),
            ((2**31, 0, 2**31), "overflow"),
            ((1,) * (MAX_RANK + 1), "33 dimensions"),
        ],
    )
    def test_an_impossible_shape_is_refused(self, shape: tuple[int, ...], why: str) -> None:
        for datatype in Datatype:
            with pytest.raises(InvalidArgument, match=why):
                byte_count(datatype, shape)

    def test_shapes_at_the_limits_are_counted(self) -> None:
        assert element_count((1,) * MAX_RANK) == 1
        assert byte_count(Datatype.FP64, (2**59,)) == 2**62
        assert element_count((2**59, 0)) == 0


elements = st.binary(max_size=5) | st.text(max_size=5)


class TestBytes:
    @given(arrays.arrays(object, shapes, elements=elements, fill=st.nothing()))
    def test_strings_survive_the_round_trip(self, array: npt.NDArray[np.object_]) -> None:
        datatype, shape, data = to_wire(array)
        assert (datatype, shape) == (Datatype.BYTES, array.shape)
        back = from_wire(data, datatype, shape)
        assert back.shape == array.shape
        assert [*back.flat] == [each.encode() if isinstance(each, str) else each for each in array.flat]

    @given(st.lists(st.text(max_size=3), max_size=3), st.lists(st.binary(max_size=3), max_size=3))
    def test_fixed_width_strings_survive_the_round_trip(self, text: list[str], binary: list[bytes]) -> None:
        for given_list in (np.array(text, "U3"), np.array(binary, "S3")):
            datatype, shape, data = to_wire(given_list)
            assert datatype is Datatype.BYTES
            wide = [each.encode() if isinstance(each, str) else each for each in given_list.tolist()]
            assert decode_bytes(data, shape).tolist() == wide

    def test_each_element_follows_its_length(self) -> None:
        assert encode_bytes(np.array(["ab", b"", "\u00e9"], object)) == b"\2\0\0\0ab\0\0\0\0\2\0\0\0\xc3\xa9"

    @pytest.mark.parametrize("element", [1, None, 2.5, ["x"], bytearray(b"x")])
    def test_elements_that_are_not_strings_are_refused(self, element: object) -> None:
        array = np.empty(1, object)
        array[0] = element
        with pytest.raises(InvalidArgument, match=f"type {type(element).__name__}"):
            to_wire(array)

    def test_a_str_that_is_not_valid_unicode_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="cannot be encoded"):
            to_wire(np.array(["\ud800"], object))

    @pytest.mark.parametrize(
        ("data", "shape", "why"),
        [
            (b"\1\0\0\0", (1,), "element 0 claims 1 bytes, but only 0 are left"),
            (b"\0\0\0\0", (2,), "4 bytes cannot hold the 2 elements"),
            (b"\5\0\0\0abcde\0\0", (2,), "the bytes end before element 1 of 2"),
            (b"\1\0\0\0ab", (1,), "1 bytes are left over after 1 elements"),
            (b"x", (), "1 bytes cannot hold"),
            (b"x", (0,), "1 bytes are left over after 0 elements"),
            (b"\xff\xff\xff\xff", (1,), "claims 4294967295 bytes"),
            (b"", (2**59,), "cannot hold"),
            (b"", (-1,), "negative"),
        ],
    )
    def test_corrupt_bytes_are_refused(self, data: bytes, shape: tuple[int, ...], why: str) -> None:
        for function in (decode_bytes, check_bytes):
            with pytest.raises(InvalidArgument, match=why):
                function(data, shape)

    @given(st.binary(max_size=40), shapes)
    @settings(max_examples=500)
    def test_any_bytes_decode_or_are_refused(self, data: bytes, shape: tuple[int, ...]) -> None:
        try:
            array = decode_bytes(data, shape)
        except InvalidArgument as error:
            with pytest.raises(InvalidArgument, match=f"^{re.escape(error.message)}$"):
                check_bytes(data, shape)
            return
        check_bytes(data, shape)
        assert array.shape == shape
        assert encode_bytes(array) == data


class TestSlices:
    @given(shapes, st.data())
    def test_the_shape_of_a_slice_equals_numpys(self, shape: tuple[int, ...], data: st.DataObject) -> None:
        slices = []
        for size in shape[: data.draw(st.integers(0, len(shape)))]:
            start = data.draw(st.integers(0, size))
            slices.append((start, data.draw(st.integers(start, size))))
        assert sliced_shape(shape, slices) == np.empty(shape)[tuple(slice(*each) for each in slices)].shape

    @pytest.mark.parametrize(
        ("slices", "why"),
        [
            ([(-1, 1)], "slice -1:1 does not lie inside axis 0 of size 2"),
            ([(0, 3)], "slice 0:3 does not lie inside axis 0 of size 2"),
            ([(0, 1), (2, 1)], "slice 2:1 does not lie inside axis 1 of size 3"),
            ([(0, 1)] * 3, "3 slices for a tensor of 2 dimensions"),
        ],
    )
    def test_a_slice_outside_the_tensor_is_refused(self, slices: list[tuple[int, int]], why: str) -> None:
        with pytest.raises(InvalidArgument, match=why):
            sliced_shape((2, 3), slices)
