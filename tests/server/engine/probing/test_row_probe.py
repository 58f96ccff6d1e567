"""Rows that depend on each other are found, whatever the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.core.specs import MAX_BATCH
from headrace.server.engine.probing.batching import Batching
from tests.server.engine.probing.rows import (
    BATCH,
    NOT_ROWS,
    OTHERS,
    Build,
    build,
    compiled,
    constant,
    count_rows,
    rows_of,
)


def _add_the_sum(x: ov.Node) -> ov.Node:
    return op.add(x, op.reduce_sum(x, BATCH, keep_dims=True))


def _accumulate(x: ov.Node) -> ov.Node:
    return op.cum_sum(x, constant(0, np.int64))


def _accumulate_backwards(x: ov.Node) -> ov.Node:
    return op.cum_sum(x, constant(0, np.int64), reverse=True)


def _subtract_the_first(x: ov.Node) -> ov.Node:
    return op.subtract(x, op.gather(x, constant([0], np.int64), constant(0, np.int64)))


def _turn_round(x: ov.Node) -> ov.Node:
    last = op.subtract(count_rows(x), constant(1, np.int64))
    backwards = op.range(last, constant(-1, np.int64), constant(-1, np.int64), "i64")
    return op.gather(x, backwards, constant(0, np.int64))


def _sort(x: ov.Node) -> ov.Node:
    return op.topk(x, count_rows(x), 0, "max", "value").output(0)


def _softmax(x: ov.Node) -> ov.Node:
    return op.softmax(x, 0)


def _divide_by_the_mean_square(x: ov.Node) -> ov.Node:
    return op.divide(x, op.sqrt(op.reduce_mean(op.multiply(x, x), BATCH, keep_dims=True)))


def _noise(x: ov.Node) -> ov.Node:
    noise = op.random_uniform(op.shape_of(x), constant(0), constant(1), "f32", 0, 0)
    return op.add(x, noise)


@pytest.mark.parametrize(
    "function",
    [
        _add_the_sum,
        _accumulate,
        _accumulate_backwards,
        _subtract_the_first,
        _turn_round,
        _sort,
        _softmax,
        _divide_by_the_mean_square,
        _noise,
    ],
)
def test_rows_that_depend_on_others(core: ov.Core, tmp_path: Path, function: Build) -> None:
    assert rows_of(compiled(core, build(tmp_path, function))) == Batching(1, OTHERS)


@pytest.mark.usefixtures("patient")
def test_rows_that_depend_on_others_are_found_without_a_requested_number(core: ov.Core, tmp_path: Path) -> None:
    assert rows_of(compiled(core, build(tmp_path, _add_the_sum)), None).rows == 1


def test_one_of_several_outputs_depends_on_others(core: ov.Core, tmp_path: Path) -> None:
    def both(x: ov.Node) -> ov.Node:
        return op.concat([x, _accumulate(x)], 1)

    assert rows_of(compiled(core, build(tmp_path, both))) == Batching(1, OTHERS)


def _clip(x: ov.Node, limit: float) -> ov.Node:
    """Scale all rows down when a number in any of them exceeds a limit."""
    largest = op.reduce_max(op.abs(x), np.array([0, 1]), keep_dims=True)
    return op.divide(x, op.maximum(constant(1), op.divide(largest, constant(limit))))


def _negate_if(condition: ov.Node, x: ov.Node) -> ov.Node:
    """Negate every row from the first one that has a number for which the condition holds."""
    ones = op.convert(condition, "f32")
    count = op.cum_sum(op.reduce_sum(ones, np.array([1]), keep_dims=True), constant(0, np.int64))
    return op.select(op.greater(count, constant(0.5)), op.negative(x), x)


@pytest.mark.parametrize("limit", [5e3, 1e6, 1e30])
def test_rows_that_depend_on_the_largest_of_all(core: ov.Core, tmp_path: Path, limit: float) -> None:
    model = compiled(core, build(tmp_path, lambda x: _clip(x, limit)))
    for requested in (2, 8):
        assert rows_of(model, requested) == Batching(1, OTHERS)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("infinite", lambda x: op.equal(x, constant(math.inf))),
        ("negative", lambda x: op.equal(x, constant(-math.inf))),
        ("not a number", lambda x: op.not_equal(x, x)),
        ("finite", lambda x: op.logical_and(op.greater(x, constant(1e30)), op.less(x, constant(math.inf)))),
        ("neither small nor extreme", lambda x: op.logical_and(op.greater(x, constant(10)), op.less(x, constant(1e4)))),
    ],
)
def test_rows_that_depend_on_an_extreme_one_before(
    core: ov.Core, tmp_path: Path, name: str, condition: Callable[[ov.Node], ov.Node]
) -> None:
    model = compiled(core, build(tmp_path, lambda x: _negate_if(condition(x), x)))
    for requested in (2, 8):
        assert rows_of(model, requested) == Batching(1, OTHERS), name


def test_rows_that_mix_in_large_batches_are_not_batched_at_all(core: ov.Core, tmp_path: Path) -> None:
    """One number in ten thousand is in the band, so two rows do not show it. A batch of two would be wrong as well."""

    def mix(x: ov.Node) -> ov.Node:
        band = op.logical_and(op.greater(x, constant(3800)), op.less(x, constant(1e6)))
        return _negate_if(band, x)

    model = compiled(core, build(tmp_path, mix, [-1, 64]))
    assert rows_of(model, 2).rows == 2
    assert rows_of(model, MAX_BATCH) == Batching(1, OTHERS)


@pytest.mark.parametrize("type_name", ["i64", "u8", "i32"])
def test_integer_rows_that_depend_on_a_row_of_ones(core: ov.Core, tmp_path: Path, type_name: str) -> None:
    """As with a mask that masks nothing."""

    def mix(x: ov.Node) -> ov.Node:
        whole = op.reduce_max(op.reduce_min(x, np.array([1]), keep_dims=True), BATCH, keep_dims=True)
        return op.add(x, whole)

    assert rows_of(compiled(core, build(tmp_path, mix, type_name=type_name))) == Batching(1, OTHERS)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: op.transpose(op.convert(op.non_zero(op.relu(x)), "f32"), np.array([1, 0])),
        lambda x: op.concat([x, x], 0),
        lambda x: op.reshape(x, np.array([-1, 8]), special_zero=False),
    ],
)
def test_outputs_that_have_other_rows(core: ov.Core, tmp_path: Path, function: Build) -> None:
    model = compiled(core, build(tmp_path, function))
    for requested in (None, 8):
        assert rows_of(model, requested).rows == 1
    assert rows_of(model).why in (NOT_ROWS, "output 'y' has no dynamic first axis")
