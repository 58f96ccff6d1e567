"""The sample inputs on which models are probed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from headrace.server.core.specs import MAX_BATCH
from headrace.server.engine.probing.sample_inputs import Poison, SampleInputs, poison_row, poisoned_rows
from headrace.wire.dtypes import numpy_dtype
from tests import models
from tests.server.engine.probing.rows import (
    compiled,
)


def test_samples_are_the_same_in_whatever_steps_they_are_drawn(core: ov.Core, tmp_path: Path) -> None:
    spec = compiled(core, models.add_multiply(tmp_path)).spec
    one, other = (SampleInputs(spec.inputs, spec.outputs, 8, large=True) for _ in range(2))
    for count in range(9):
        one.rows(count)
    for left, right in zip(one.rows(8), other.rows(8), strict=True):
        assert (left == right).all()
        assert len({row.tobytes() for row in left}) == 8


@pytest.mark.parametrize("type_name", ["boolean", "u8", "i64"])
@pytest.mark.parametrize("large", [False, True])
def test_integers_are_0_and_1(core: ov.Core, tmp_path: Path, type_name: str, large: bool) -> None:
    ports = compiled(core, models.identity(tmp_path, type_name)).spec.inputs
    (values,) = SampleInputs(ports, ports, MAX_BATCH, large=large).rows(MAX_BATCH)
    assert set(values.view(numpy_dtype(ports[0].datatype)).ravel().tolist()) == {0, 1}


@pytest.mark.parametrize("type_name", ["u8", "i16"])
def test_integers_that_are_no_indices_have_every_value(core: ov.Core, tmp_path: Path, type_name: str) -> None:
    ports = compiled(core, models.identity(tmp_path, type_name)).spec.inputs
    (values,) = SampleInputs(ports, ports, 4096, [0], large=False).rows(4096)
    numbers = values.view(numpy_dtype(ports[0].datatype)).ravel()
    limits = np.iinfo(numbers.dtype)
    assert len({*numbers.tolist()}) >= 256
    assert numbers.min() < limits.min + limits.max / 64
    assert numbers.max() > limits.max - limits.max / 64


@pytest.mark.parametrize("type_name", ["f16", "bf16", "f32", "f64"])
def test_floats_are_poisoned_with_extreme_values(core: ov.Core, tmp_path: Path, type_name: str) -> None:
    port = compiled(core, models.identity(tmp_path, type_name)).spec.inputs[0]
    dtype = numpy_dtype(port.datatype)
    values = [(Poison.INFINITY, math.inf), (Poison.MINUS_INFINITY, -math.inf), (Poison.NAN, math.nan)]
    for poison, value in values:
        np.testing.assert_array_equal(poison_row(port, poison).view(dtype).astype(float), [value])
    (largest,) = poison_row(port, Poison.LARGEST_FINITE).view(dtype)
    assert np.isfinite(largest)
    with np.errstate(over="ignore"):
        assert np.isinf(np.nextafter(largest, dtype.type(math.inf)))


def test_every_poison_is_in_both_of_two_rows() -> None:
    random = np.random.default_rng()
    pairs = list(poisoned_rows(2, random))
    assert pairs == [{row: poison} for poison in Poison for row in (0, 1)]
    for rows in range(3, MAX_BATCH + 1):
        for poisoned in poisoned_rows(rows, random):
            assert len(poisoned) == 2
            assert max(poisoned) < rows
