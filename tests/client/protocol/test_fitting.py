"""Inputs are checked against the ports of a model, and converted where no value changes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.protocol.call_description import normalize, signature
from headrace.client.protocol.fitting import fit
from headrace.client.protocol.inputs import NormalInputs, Reference, zeros
from headrace.client.protocol.known_models import MAX_MODELS, DescriptionNeeded, KnownModels, Untold
from headrace.client.protocol.models import Dimension, Model, Port
from headrace.wire.errors import InvalidArgument, NotFound
from tests.client.protocol.made_calls import X

NAMES = ("m", None, None, (), ())


def port(name: str, datatype: str = "FP32", shape: tuple[Dimension, ...] | None = (None,)) -> Port:
    return Port(name, datatype, shape, (name, f"{name}:0"))


def model(*inputs: Port) -> Model:
    return Model("m", "1", inputs, (port("sum"), port("product")), has_variables=False, slots=1)


def fitted(model: Model, names: Any = NAMES, **inputs: Any) -> NormalInputs:
    _, arrays, _, plain = signature(NAMES, inputs)
    return fit(model, names, normalize(inputs, arrays), plain)


def value(datatype: str, given: Any) -> Any:
    return fitted(model(port("x", datatype, None)), x=given)["x"]


# Names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": X, "size": X}, None),
        ({"image:0": X, "size": X}, None),
        ({"imge": X, "size": X}, r"^model 'm' has no input 'imge' \(did you mean 'image'\?\); it has 'image', 'size'$"),
        ({"IMAGE": X, "size": X}, r"did you mean 'image'\?"),
        ({"other": X}, r"^model 'm' has no input 'other'; it has 'image', 'size'$"),
        ({"image": X}, "^input 'size' of model 'm' is missing$"),
    ],
)
def test_inputs_have_names_of_the_model(given: dict[str, Any], message: str | None) -> None:
    described = model(port("image"), port("size"))
    if message is None:
        assert set(fitted(described, **given)) == set(given)
    else:
        with pytest.raises(InvalidArgument, match=message):
            fitted(described, **given)


@pytest.mark.parametrize("names", [("m", None, ("summ",), (), ()), ("m", None, None, ("summ",), ())])
def test_outputs_have_names_of_the_model(names: Any) -> None:
    with pytest.raises(NotFound, match=r"no output 'summ' \(did you mean 'sum'\?\); it has 'sum', 'product'"):
        fitted(model(port("x")), names, x=X)
    assert fitted(model(port("x")), ("m", None, ("sum:0",), ("product",), ("x",)), x=X)
    with pytest.raises(NotFound, match=r"no input 'xs' \(did you mean 'x'\?\); it has 'x'"):
        fitted(model(port("x")), ("m", None, (), (), ("xs",)), x=X)


def test_a_model_with_many_ports_is_not_listed_whole() -> None:
    with pytest.raises(InvalidArgument, match=r"it has 'p0', .*'p7' and 92 more$"):
        fitted(model(*[port(f"p{number}") for number in range(100)]), x=X)


# Shapes


@pytest.mark.parametrize(
    ("dimensions", "shape", "message"),
    [
        ((None, 4), (7, 4), None),
        (None, (7, 4, 1), None),
        (((2, 8),), (8,), None),
        (((2, None),), (99,), None),
        ((), (), None),
        ((None, 4), (4,), r"\[4\]; the model takes FP32\[\?,4\], of 2 dimensions and not 1: .*newaxis"),
        ((2, 4), (4,), r"takes FP32\[2,4\], of 2 dimensions and not 1$"),
        ((None, 4), (7, 5), r"\[7, 5\]; the model takes FP32\[\?,4\]$"),
        (((2, 8),), (9,), r"\[9\]; the model takes FP32\[2\.\.8\]$"),
        (((2, 8),), (1,), r"\[1\]; the model takes FP32\[2\.\.8\]$"),
    ],
)
def test_shapes_are_those_of_the_port(
    dimensions: tuple[Dimension, ...] | None, shape: tuple[int, ...], message: str | None
) -> None:
    described = model(port("x", "FP32", dimensions))
    for value in (np.zeros(shape, np.float32), zeros(shape)):
        if message is None:
            assert fitted(described, x=value)["x"] is value
        else:
            with pytest.raises(InvalidArgument, match=f"^input 'x' has shape .*{message}"):
                fitted(described, x=value)


def test_references_are_for_the_server_to_check() -> None:
    reference = Reference(None, 1, "z")
    assert fitted(model(port("x")), x=reference) == {"x": reference}


# Datatypes


@pytest.mark.parametrize(
    ("datatype", "given", "dtype"),
    [
        ("FP32", [1, 2.5], np.float32),
        ("FP32", [0.1], np.float32),  # a Python float has no precision of its own
        ("FP16", 0.1, np.float16),
        ("BF16", [0.1, float("inf"), float("nan")], ml_dtypes.bfloat16),
        ("INT64", [1.0, -2.0], np.int64),
        ("UINT8", [[0, 255]], np.uint8),
        ("BOOL", [1, 0], np.bool_),
        ("INT32", True, np.int32),
        ("FP64", [0.1], np.float64),
        ("FP32", np.array([1.0, 0.5, np.nan, -np.inf]), np.float32),
        ("FP32", np.array([1.0], ">f8"), np.float32),
        ("INT32", np.array([1.0, -7.0]), np.int32),
        ("UINT64", [2**64 - 1], np.uint64),
        ("BYTES", "word", np.object_),
    ],
)
def test_a_value_is_converted_if_nothing_is_lost(datatype: str, given: Any, dtype: Any) -> None:
    found = value(datatype, given)
    assert found.dtype == dtype
    expected = np.asarray(given, dtype)
    if dtype is not np.object_:  # NumPy does not compare NaN of bfloat16
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("datatype", "given", "message"),
    [
        (
            "FP32",
            np.array([0.1, 0.5]),
            r"1 of 2 values, such as 0.1, would change as FP32.*\.astype\(np.float32\)$",
        ),
        ("FP32", np.float64(0.1), r"1 of 1 values.*\.astype\(np.float32\)$"),
        ("FP16", [1e6], r"such as 1000000.0, would change as FP16"),
        ("INT64", [1.5], r"such as 1.5, would change as INT64.*\.astype\(np.int64\)$"),
        ("INT64", [float("nan")], "would change as INT64"),
        ("INT64", np.array([2.0**63]), "would change as INT64"),
        ("UINT8", [-1, 256], "2 of 2 values, such as -1, would change as UINT8"),
        ("FP32", [2**24 + 1], "would change as FP32"),
        ("FP64", [2**63 - 1], "would change as FP64"),
        ("BF16", [257], r"write .astype\(ml_dtypes.bfloat16\)$"),
        ("BOOL", [2], r"would change as BOOL.*write .astype\(bool\)$"),
        ("INT64", X, r"^input 'x' has datatype FP32; the model takes INT64: write .astype\(np.int64\)$"),
        ("FP32", np.arange(3), r"has datatype INT64; the model takes FP32: write .astype\(np.float32\)$"),
        ("FP32", zeros(3, np.int8), r"has datatype INT8; the model takes FP32"),
        ("FP32", "word", "has datatype BYTES; the model takes FP32$"),
        ("BYTES", [1], "has datatype INT64; the model takes BYTES: give str or bytes$"),
        ("BYTES", X, "has datatype FP32; the model takes BYTES: give str or bytes$"),
    ],
)
def test_a_value_that_would_change_is_refused_with_what_to_write(datatype: str, given: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        value(datatype, given)


@given(
    st.sampled_from(["BOOL", "UINT8", "INT8", "INT16", "UINT32", "INT64", "UINT64", "FP16", "BF16", "FP32"]),
    st.lists(st.floats(width=64) | st.integers(-300, 300).map(float) | st.floats(width=16), min_size=1, max_size=4),
)
def test_a_converted_array_has_the_same_values(datatype: str, values: list[float]) -> None:
    array = np.array(values)
    try:
        found = value(datatype, array)
    except InvalidArgument:
        with np.errstate(all="ignore"):
            there = array.astype(port("x", datatype).dtype)
        exact = [float(each) == old or (each != each and old != old) for each, old in zip(there, values, strict=True)]
        assert not all(exact) or any(abs(old) >= 2.0**63 for old in values)
    else:
        np.testing.assert_array_equal(found.astype(np.float64), array)


def test_a_datatype_of_the_future_is_for_the_server_to_check() -> None:
    assert value("99", X) is X


# What is known


def test_what_is_not_known_is_wanted_once_it_is_used() -> None:
    wanted: list[tuple[str, str]] = []
    known = KnownModels(wanted.append)
    assert known.fit(NAMES, {"x": X}, ()) == {"x": X}
    assert wanted == [("m", "")]
    doubles: NormalInputs = {"x": np.ones(2)}
    with pytest.raises(DescriptionNeeded) as needed:
        known.fit(NAMES, doubles, ())
    assert needed.value.error is None
    with pytest.raises(DescriptionNeeded):
        known.fit(("m", "3", None, (), ()), {"x": X}, ("x",))
    known.put(("m", ""), model(port("x")))
    assert known.fit(NAMES, doubles, ())["x"].dtype == np.float32  # type: ignore[union-attr]  # an array
    with pytest.raises(DescriptionNeeded) as needed:
        known.fit(NAMES, {"y": X}, ())
    assert isinstance(needed.value.error, InvalidArgument)
    known.forget(("m", ""))
    with pytest.raises(DescriptionNeeded):
        known.fit(NAMES, doubles, ())
    known.put(("m", ""), Untold())
    assert known.fit(NAMES, doubles, ()) is doubles
    for number in range(2 * MAX_MODELS):
        known.put(("m", str(number)), Untold())
    assert f"{MAX_MODELS} of {MAX_MODELS} entries" in repr(known)
