"""Kept inputs and parts of tensors: what was given, in memory that is charged for and that nobody writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.server.core.calls import Zeros
from headrace.server.core.engine_api import Tensor
from headrace.server.engine.kept_inputs import MAX_PINNED_BYTES
from headrace.server.engine.tensors import MAX_COPIED_BYTES, OutputTensor, TensorSlice, as_bytes
from headrace.wire.dtypes import Datatype
from headrace.wire.tensors import to_wire
from tests import models
from tests.server.engine.bench import Kind
from tests.server.engine.decoding.pictures import jpeg, picture
from tests.server.engine.decoding.test_runs import files, load
from tests.server.engine.driver import Array, Driver, address, array, arrays, f32, of, piece, row

LARGE = MAX_COPIED_BYTES // 4 + 1
"""Elements of f32 that make a large tensor."""


def tensor_of(values: Array) -> OutputTensor:
    datatype, shape, data = to_wire(values)
    return OutputTensor(datatype, shape, bytes(data) if datatype is Datatype.BYTES else as_bytes(values))


def holds(tensor: Tensor) -> int:
    """How much memory a tensor keeps alive."""
    data = tensor.read()
    return len(data) if isinstance(data, bytes) else memoryview(memoryview(data).obj).nbytes


@pytest.mark.parametrize("count", [0, 1, 5, LARGE])
def test_a_kept_input_is_what_was_given(driver: Driver, tmp_path: Path, run: Kind, count: int) -> None:
    spec = driver.load(models.scale(tmp_path), run=run)
    x = np.arange(count, dtype=np.float32)
    source = tensor_of(np.arange(2 * count + 3, dtype=np.float32))
    zeros = Zeros("x", Datatype.FP32, (count,))
    given: list[tuple[Any, Array]] = [
        (x, x),
        (tensor_of(x), x),
        (source.sliced(((3, 3 + count),)), x + 3),
        (zeros, np.zeros(count, np.float32)),
    ]
    for value, expected in given * 3:
        result = driver.run(of(piece(spec, {"x": value}, ["y"], ["y"], ["x"])))
        (y,), (kept_y, kept_x) = arrays(result.sent), arrays(result.kept)
        np.testing.assert_array_equal(kept_x, expected)
        np.testing.assert_array_equal(y, 2 * expected + 1)
        np.testing.assert_array_equal(kept_y, y)


def test_strings_are_kept_and_parts_of_them_are_inputs(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.strings(tmp_path))
    x = np.array([b"a", b"", b"ccc\0", b"dd"], object)
    (kept,) = driver.run(of(piece(spec, {"x": x}, [], [], ["x"]))).kept
    assert kept.nbytes == 4 * 4 + 7
    part = kept.sliced(((1, 3),))
    assert part.nbytes == 2 * 4 + 4
    result = driver.run(of(piece(spec, {"x": part}, ["same"], [], ["x"])))
    assert arrays(result.sent)[0].tolist() == arrays(result.kept)[0].tolist() == [b"", b"ccc\0"]


def test_of_images_the_files_are_kept(driver: Driver, tmp_path: Path) -> None:
    spec = load(driver, tmp_path, [-1, 3, 24, 32])
    given, bad = jpeg(picture(40, 30)), b"no image"
    parts = [piece(spec, files(each), ["same"], [], ["x"]) for each in (given, bad, given)]
    ended = driver._ended(of(*parts))
    assert set(ended.failures) == {1}
    for position in (0, 2):
        assert array(ended.kept[position][0]).tolist() == [given]
    again = driver.run(of(piece(spec, {"x": ended.kept[2][0]}, ["same"])))
    np.testing.assert_array_equal(array(again.sent[0]), array(ended.sent[0][0]))


@pytest.mark.parametrize("keep", [[], ["sum"]])
def test_of_a_batch_each_part_keeps_its_own_rows(driver: Driver, tmp_path: Path, keep: list[str]) -> None:
    spec = driver.load(models.add_multiply(tmp_path))
    whole = tensor_of(np.repeat(np.arange(9, dtype=np.float32)[:, None], 16, axis=1))
    parts = [
        piece(spec, {"x": whole.sliced(((number, number + 1),)), "y": row(10)}, ["sum"], keep, ["y", "x"])
        for number in (7, 2, 5)
    ]
    parts[1].keep = parts[1].keep[-1:]
    results = driver.batch(of(*parts))
    assert [array(result.sent[0])[0, 0] for result in results] == [17, 12, 15]
    first, second, third = [[each[0, 0] for each in arrays(result.kept)] for result in results]
    assert (first, second, third) == ([*[17] * len(keep), 10, 7], [2], [*[15] * len(keep), 10, 5])
    assert all(kept.shape == (1, 16) for result in results for kept in result.kept)


def test_an_input_that_is_nearly_all_of_its_message_is_kept_without_a_copy(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    values = np.arange(LARGE, dtype=np.float32)
    for rest, copied in ((100, False), (MAX_PINNED_BYTES, False), (MAX_PINNED_BYTES + 1, True)):
        message = bytes(rest) + values.tobytes()
        part = piece(spec, {"x": values}, [], [], ["x"])
        part.inline = [memoryview(message)[rest:]]
        (kept,) = driver.run(of(part)).kept
        assert (address(kept.read()) == address(message) + rest) is not copied
        assert holds(kept) <= kept.nbytes + MAX_PINNED_BYTES
        np.testing.assert_array_equal(array(kept), values)


def test_a_part_that_is_kept_again_does_not_keep_the_whole(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    whole = tensor_of(np.arange(LARGE, dtype=np.float32))
    (kept,) = driver.run(of(piece(spec, {"x": whole.sliced(((2, 5),))}, [], [], ["x"]))).kept
    assert holds(kept) == kept.nbytes == 12
    (all_of_it,) = driver.run(of(piece(spec, {"x": whole}, [], [], ["x"]))).kept
    assert address(all_of_it.read()) == address(whole.read()), "shared: neither changes"
    (nothing,) = driver.run(of(piece(spec, {"x": Zeros("x", Datatype.FP32, (LARGE,))}, [], [], ["x"]))).kept
    assert not array(nothing).any()


def test_a_contiguous_part_is_used_where_it_lies(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    whole = tensor_of(np.arange(3 * LARGE, dtype=np.float32))
    part = whole.sliced(((LARGE, 2 * LARGE),))
    driver.run(of(piece(spec, {"x": part}, [])))
    set_there = driver.slot(spec)._request.get_input_tensor(0).data.ctypes.data
    assert set_there == address(whole.read()) + 4 * LARGE


def test_what_is_kept_is_never_written(driver: Driver, tmp_path: Path, run: Kind) -> None:
    """By any run that reads it or a part of it, whether its model computes in place or passes its input through."""
    scale = driver.load(models.scale(tmp_path), run=run)
    passing = driver.load(models.passed_through(tmp_path), run=run)
    for spec, values in ((scale, np.arange(2 * LARGE, dtype=np.float32)), (passing, np.arange(2 * LARGE))):
        (kept,) = driver.run(of(piece(spec, {"x": values}, [], [], ["x"]))).kept
        for start in range(20):
            part = kept.sliced(((start, LARGE + start),))
            result = driver.run(of(piece(spec, {"x": part}, None, [], ["x"])))
            np.testing.assert_array_equal(array(result.kept[0]), values[start : LARGE + start])
            driver.run(of(piece(spec, {"x": values[: LARGE + start] * -1}, [])))
        np.testing.assert_array_equal(array(kept), values)


def test_parts_of_outputs_of_static_models_are_set_before_each_run(driver: Driver, tmp_path: Path, run: Kind) -> None:
    """Runs of one plan whose inputs are all small take a short way: with parts, too."""
    spec = driver.load(models.static_add_multiply(tmp_path), run=run)
    table = tensor_of(np.repeat(np.arange(50, dtype=np.float32)[:, None], 16, axis=1))
    part = piece(spec, {"x": table.sliced(((0, 1),)), "y": row(1)}, ["sum"])
    for number in range(50):
        part.references = [table.sliced(((number, number + 1),))]
        (found,) = arrays(driver.run(of(part)).sent)
        assert (found == number + 1).all()


slices = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted).map(tuple)


@given(st.lists(st.lists(slices, max_size=3), min_size=1, max_size=3), st.sampled_from(["strings", "numbers"]))
def test_a_part_of_a_part_is_what_numpy_says(cuts: list[list[tuple[int, int]]], kind: str) -> None:
    numbers = np.arange(4 * 4 * 4, dtype=np.int32).reshape(4, 4, 4)
    values = np.array([b"x" * each for each in numbers.ravel().tolist()], object).reshape(4, 4, 4)
    expected = values if kind == "strings" else numbers
    tensor: OutputTensor | TensorSlice = tensor_of(expected)
    for cut in cuts:
        inside = [(min(start, size), min(stop, size)) for (start, stop), size in zip(cut, expected.shape, strict=False)]
        expected = expected[tuple(slice(start, stop) for start, stop in inside)]
        assert tensor.read(inside) == bytes(to_wire(expected)[2])
        tensor = tensor.sliced(tuple(inside))
        assert tensor.shape == expected.shape
        assert tensor.nbytes == len(tensor.read())
        np.testing.assert_array_equal(array(tensor), expected)


def test_a_part_reads_nothing_before_it_is_needed() -> None:
    table = tensor_of(np.ones((1000, 1000), np.float32))
    part = table.sliced(((0, 1000), (0, 1)))
    assert (part.shape, part.nbytes) == ((1000, 1), 4000)
    assert part.read() == np.ones(1000, np.float32).tobytes()
    assert address(table.sliced(((5, 7),)).read()) == address(table.read()) + 5 * 4000
    assert f32(1).tobytes() == table.sliced(((0, 1), (0, 1))).read()
