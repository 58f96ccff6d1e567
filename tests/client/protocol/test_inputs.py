"""Inputs are converted to the dtypes of the wire."""

import numpy as np
import pytest

from headrace.client.protocol.call_description import normalize, signature
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, zeros
from headrace.wire.errors import InvalidArgument


def normal(inputs: Inputs) -> NormalInputs:
    _, arrays, *_ = signature(("m", None, None, (), ()), inputs)
    return normalize(inputs, arrays)


def test_arrays_get_the_dtypes_of_the_wire() -> None:
    inputs = normal({"a": [1, 2], "b": np.array([1.0], ">f4"), "c": np.array(["é", "b"])})
    dtypes = [value.dtype for value in inputs.values() if isinstance(value, np.ndarray)]
    assert dtypes == [np.dtype(np.int64), np.dtype("<f4"), np.dtype(object)]


def test_references_and_zeros_are_not_changed() -> None:
    inputs: Inputs = {"a": Reference(object(), 7, "z"), "b": zeros((2, 3))}
    assert normal(inputs) == inputs


def test_a_dtype_without_a_datatype_is_named_with_its_input() -> None:
    with pytest.raises(InvalidArgument, match=r"input 'x'.*complex128"):
        normal({"x": np.zeros(2, np.complex128)})


def test_the_repr_of_a_reference_shows_what_it_refers_to() -> None:
    assert repr(Reference(object(), 7, "z")) == "Reference(tag=7, output='z', take=False, slices=())"
