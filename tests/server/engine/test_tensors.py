"""Reading outputs, whole and in slices."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.server.engine.tensors import OutputTensor, as_bytes, is_out_of_memory
from headrace.wire.dtypes import Datatype
from tests.server.engine.driver import address


def tensor(
    shape: Sequence[int],
) -> tuple[OutputTensor, np.ndarray[tuple[int, ...], np.dtype[np.int32]]]:
    elements = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    return OutputTensor(Datatype.INT32, tuple(shape), elements.tobytes()), elements


@st.composite
def sliced(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    slices = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        start = draw(st.integers(0, size))
        slices.append((start, draw(st.integers(start, size))))
    return shape, slices


@given(sliced())
def test_a_slice_has_the_bytes_that_numpy_says(
    drawn: tuple[list[int], list[tuple[int, int]]],
) -> None:
    shape, slices = drawn
    output, elements = tensor(shape)
    expected = elements[tuple(slice(*bounds) for bounds in slices)]
    assert bytes(output.read(slices)) == expected.tobytes()


def test_a_whole_output_is_not_copied() -> None:
    data = np.arange(24, dtype=np.int32)
    output = OutputTensor(Datatype.INT32, (2, 3, 4), as_bytes(data))
    assert output.nbytes == 96
    assert address(output.read()) == data.ctypes.data


@pytest.mark.parametrize(
    ("slices", "offset"),
    [
        ([(1, 2)], 48),
        ([(0, 2), (0, 3), (0, 4)], 0),
        ([(1, 2), (1, 3)], 64),
        ([(1, 2), (2, 3), (1, 3)], 84),
    ],
)
def test_a_contiguous_slice_is_a_view(slices: list[tuple[int, int]], offset: int) -> None:
    data = np.arange(24, dtype=np.int32)
    part = OutputTensor(Datatype.INT32, (2, 3, 4), as_bytes(data)).read(slices)
    assert address(part) == data.ctypes.data + offset


def test_another_slice_is_a_copy() -> None:
    output, elements = tensor((2, 3, 4))
    assert output.read([(0, 2), (1, 2)]) == elements[:, 1:2].tobytes()


def test_a_view_outlives_its_tensor() -> None:
    output = OutputTensor(Datatype.FP32, (1 << 20,), as_bytes(np.full(1 << 20, 7, np.float32)))
    view = output.read([(5, 1000)])
    del output
    gc.collect()
    np.full(1 << 20, 9, np.float32)  # would be given the same memory, if it had been freed
    assert (np.frombuffer(view, np.float32) == 7).all()


def test_an_output_is_read_only() -> None:
    view = OutputTensor(Datatype.FP32, (4,), as_bytes(np.zeros(4, np.float32))).read()
    assert isinstance(view, memoryview)
    assert view.readonly


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    output = OutputTensor(Datatype.FP32, shape, as_bytes(np.ones(shape, np.float32)))
    assert output.read() == np.ones(shape, np.float32).tobytes()
    assert output.nbytes == 4 * math.prod(shape)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("Exception from infer_request.cpp:246: std::bad_alloc"), True),
        (RuntimeError("Check 'ptr' failed\nFailed to allocate 1073741824 bytes of memory"), True),
        (RuntimeError("Check 'axis' failed"), False),
        (ValueError("bad_alloc"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
