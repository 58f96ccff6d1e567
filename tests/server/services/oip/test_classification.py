"""The classification extension, decoded as Triton's clients decode it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.server.services.oip.classification import MAX_CLASSES, MAX_ELEMENTS, Classifier
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument
from headrace.wire.tensors import decode_bytes, to_wire


def classes(array: npt.NDArray[Any], count: int, labels: tuple[str, ...] = ()) -> Any:
    """The classes of a tensor, as nested lists."""
    datatype, shape, data = to_wire(array)
    result_shape, elements = Classifier().classify(datatype, shape, data, count, labels)
    return np.vectorize(bytes.decode, otypes=[object])(decode_bytes(elements, result_shape)).tolist()


def test_the_largest_come_first() -> None:
    scores = np.array([0.1, 0.7, -2, 0.2], np.float32)
    assert classes(scores, 2) == ["0.700000:1", "0.200000:3"]


def test_there_are_no_more_classes_than_elements() -> None:
    assert classes(np.array([1, 2], np.int64), 2**63 - 1) == ["2:1", "1:0"]


def test_a_label_follows_the_index_if_there_is_one() -> None:
    scores = np.array([1, 4, 3, 2], np.uint8)
    assert classes(scores, 4, ("cat", "dog", "")) == ["4:1:dog", "3:2", "2:3", "1:0:cat"]


def test_equal_elements_keep_their_order() -> None:
    assert classes(np.array([5, 7, 5, 7, 5], np.int16), 4) == ["7:1", "7:3", "5:0", "5:2"]
    assert classes(np.array([-0.0, 0.0, 0.0], np.float64), 3) == ["-0.000000:0", "0.000000:1", "0.000000:2"]


def test_nan_comes_last() -> None:
    scores = np.array([np.nan, -np.inf, 1, np.nan, np.inf], np.float32)
    assert classes(scores, 5) == ["inf:4", "1.000000:2", "-inf:1", "nan:0", "nan:3"]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.int8, ["127:0", "-128:1"]),
        (np.int16, ["32767:0", "-32768:1"]),
        (np.int32, ["2147483647:0", "-2147483648:1"]),
        (np.int64, ["9223372036854775807:0", "-9223372036854775808:1"]),
        (np.uint8, ["255:0", "0:1"]),
        (np.uint16, ["65535:0", "0:1"]),
        (np.uint32, ["4294967295:0", "0:1"]),
        (np.uint64, ["18446744073709551615:0", "0:1"]),
    ],
)
def test_the_extreme_values_of_each_integer_datatype(dtype: Any, expected: list[str]) -> None:
    limits = np.iinfo(dtype)
    assert classes(np.array([limits.max, limits.min], dtype), 2) == expected


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_all_float_datatypes_are_printed_alike(dtype: Any) -> None:
    assert classes(np.array([0.5, -1.5, 2], dtype), 3) == ["2.000000:2", "0.500000:0", "-1.500000:1"]


def test_a_float_is_printed_with_its_own_precision() -> None:
    assert classes(np.array([3e38], np.float32), 1) == ["300000000549775575777803994281145270272.000000:0"]
    assert classes(np.array([0.1], ml_dtypes.bfloat16), 1) == ["0.100098:0"]
    for number in (1.7e308, 2.0**53, 2.0**53 - 0.5, -1e300, float("inf"), 0.5):
        assert classes(np.array([number, -1e308]), 1) == [f"{number:f}:0"]


def test_a_scalar_has_one_class() -> None:
    assert classes(np.array(3, np.int32), 5) == ["3:0"]


def test_tensors_of_more_dimensions_are_classified_row_by_row() -> None:
    scores = np.array([[[1, 2], [4, 3]], [[9, 8], [6, 7]]], np.int32)
    assert classes(scores, 3, ("a", "b", "c", "d")) == [["4:2:c", "3:3:d", "2:1:b"], ["9:0:a", "8:1:b", "7:3:d"]]


@pytest.mark.parametrize(
    ("shape", "expected"), [((0,), (0,)), ((0, 5), (0, 3)), ((4, 0), (4, 0)), ((2, 0, 3), (2, 0)), ((0, 2, 1), (0, 2))]
)
def test_empty_tensors_have_no_classes(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert Classifier().classify(Datatype.FP32, shape, b"", 3, ()) == (expected, b"")


@pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.BOOL])
def test_only_numbers_can_be_classified(datatype: Datatype) -> None:
    message = f"^an output of datatype {datatype.name} cannot be classified: its elements are not numbers$"
    with pytest.raises(InvalidArgument, match=message):
        Classifier().classify(datatype, (1,), b"\0", 1, ())


@pytest.mark.parametrize("count", [0, -1])
def test_the_number_of_classes_is_at_least_one(count: int) -> None:
    with pytest.raises(InvalidArgument, match=f"^the number of classes is {count}; it must be at least 1$"):
        Classifier().classify(Datatype.FP32, (1,), bytes(4), count, ())


@given(
    arrays.arrays(st.sampled_from([np.int8, np.uint16, np.float32]), arrays.array_shapes(max_dims=3, max_side=4)),
    st.integers(1, 8),
)
def test_the_order_is_that_of_a_sort_in_python(array: npt.NDArray[Any], count: int) -> None:
    def best(row: npt.NDArray[Any]) -> list[str]:
        values = row.ravel().tolist()
        order = sorted(range(len(values)), key=lambda i: (values[i] != values[i], -values[i], i))
        # NaN compares with nothing: NaNs come last, in their order.
        order = [i for i in order if values[i] == values[i]] + [i for i in range(len(values)) if values[i] != values[i]]
        return [f"{values[i]:f}:{i}" if array.dtype.kind == "f" else f"{values[i]}:{i}" for i in order[:count]]

    assert classes(array, count) == (best(array) if array.ndim == 1 else [best(row) for row in array])


@pytest.mark.parametrize("count", [1, 7, 1800])
def test_the_largest_of_a_long_row_are_those_that_sorting_all_of_it_finds(count: int) -> None:
    """With equal ones, infinities and NaN around the limit."""
    random = np.random.default_rng(3)
    scores = random.integers(0, 40, (3, 5000)).astype(np.float32)
    scores[1, :2500], scores[2, :4500] = np.inf, np.nan
    for array in (scores, np.nan_to_num(scores, posinf=7).astype(np.int8)):
        order = np.argsort(-array, axis=1, kind="stable")[:, :count]
        assert [[int(each.split(":")[1]) for each in row] for row in classes(array, count)] == order.tolist()


def test_the_work_for_one_response_is_bounded() -> None:
    with pytest.raises(InvalidArgument, match=rf"^{MAX_ELEMENTS + 1} elements .* limit .* {MAX_ELEMENTS}$"):
        Classifier().classify(Datatype.FP32, (MAX_ELEMENTS + 1,), b"", 1, ())
    with pytest.raises(InvalidArgument, match=rf"^{MAX_CLASSES + 2} classes .* limit .* {MAX_CLASSES}, over all rows$"):
        Classifier().classify(Datatype.FP32, (MAX_CLASSES // 2 + 1, 2), b"", 2, ())
    classifier = Classifier()
    classifier.classify(Datatype.FP32, (MAX_ELEMENTS // 2,), bytes(2 * MAX_ELEMENTS), 1, ())
    with pytest.raises(InvalidArgument, match="limit for one response"):
        classifier.classify(Datatype.FP32, (MAX_ELEMENTS // 2 + 1,), b"", 1, ())
