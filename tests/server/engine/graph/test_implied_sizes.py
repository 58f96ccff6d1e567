"""Sizes of outputs that must equal sizes of inputs, according to shape inference."""

from __future__ import annotations

import re

import numpy as np
import openvino as ov
import pytest
from openvino import opset15 as op

from headrace.server.engine.graph.implied_sizes import ImpliedSizes
from headrace.server.engine.ports import ports_of


def implied(model: ov.Model) -> ImpliedSizes:
    return ImpliedSizes(model, ports_of("m", "output", model.outputs))


def test_sizes_that_stay_the_same() -> None:
    x, y = op.parameter([-1, -1], ov.Type.f32), op.parameter([-1, 4], ov.Type.f32)
    product = op.matmul(op.relu(x), y, False, False)
    found = implied(ov.Model([product, op.transpose(x, [1, 0]), op.reshape(y, [-1, 2, 2], False)], [x, y]))
    inputs = {0: (3, 5), 1: (5, 4)}
    found.check(0, (3, 4), inputs)
    found.check(1, (5, 3), inputs)
    found.check(2, (5, 2, 2), inputs)
    for output, shape in ((0, (2, 4)), (1, (3, 5)), (2, (4, 2, 2))):
        with pytest.raises(RuntimeError, match=re.escape(f"has shape {list(shape)}, but axis ")):
            found.check(output, shape, inputs)


def test_sizes_that_must_be_equal_for_the_model_to_run() -> None:
    """GatherElements has as many rows as each of its inputs."""
    x, index = op.parameter([-1, 4], ov.Type.f32), op.parameter([-1, 2], ov.Type.i32)
    found = implied(ov.Model([op.gather_elements(x, index, 1)], [x, index]))
    found.check(0, (3, 2), {0: (3, 4), 1: (3, 2)})
    with pytest.raises(RuntimeError, match="must equal axis 0 of an input of shape"):
        found.check(0, (5, 2), {0: (3, 4), 1: (3, 2)})
    for inputs in ({0: (3, 4), 1: (5, 2)}, {0: (5, 4), 1: (3, 2)}):
        with pytest.raises(RuntimeError):  # of the runtime: these inputs do not go together
            found.check(0, (3, 2), inputs)


def test_sizes_that_may_differ() -> None:
    """Broadcast, determined by data, concatenated, bounded or without a rank: none of these is implied."""
    x, y = op.parameter([-1], ov.Type.f32), op.parameter([-1], ov.Type.f32)
    anything = op.parameter(ov.PartialShape.dynamic(), ov.Type.f32)
    outputs = [op.add(x, y), op.relu(op.unique(x).output(0)), op.concat([x, x], 0), op.relu(anything)]
    found = implied(ov.Model(outputs, [x, y, anything]))
    inputs = {0: (1,), 1: (7,), 2: (2, 2)}
    for output, shape in enumerate(((7,), (1,), (2,), (9, 9, 9))):
        assert output not in found
        found.check(output, shape, inputs)


def test_sizes_that_are_broadcast() -> None:
    """A single row matches any number of rows, although shape inference takes the rows of `x` for those of the sum."""
    x, y = op.parameter([-1, 4], ov.Type.f32), op.parameter([-1, 4], ov.Type.f32)
    twice = op.concat([y, y], 0)
    found = implied(ov.Model([op.add(twice, x), op.add(op.concat([x, x], 0), x)], [x, y]))
    for _ in range(2):
        found.check(0, (6, 4), {0: (1, 4), 1: (3, 4)})
        found.check(1, (2, 4), {0: (1, 4), 1: (1, 4)})


def test_bounds_do_not_matter() -> None:
    x = op.parameter(ov.PartialShape([ov.Dimension(2, 8), 4]), ov.Type.f32)
    found = implied(ov.Model([op.multiply(x, np.float32(2))], [x]))
    found.check(0, (3, 4), {0: (3, 4)})
    with pytest.raises(RuntimeError):
        found.check(0, (4, 4), {0: (3, 4)})


def test_a_static_model_has_nothing_to_check() -> None:
    x = op.parameter([2, 4], ov.Type.f32)
    assert 0 not in implied(ov.Model([op.relu(x)], [x]))


def test_the_model_is_left_as_it_is() -> None:
    x = op.parameter([-1, 4], ov.Type.f32)
    model = ov.Model([op.relu(x)], [x])
    implied(model)
    assert not model.inputs[0].get_partial_shape()[0].has_symbol()
