"""Descriptions of calls, and the keys that tell calls apart."""

from typing import Any

import numpy as np
import pytest

from headrace.client.protocol.call_description import describe, names_of
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, zeros
from headrace.v1 import inference_pb2 as pb
from tests.client.protocol.made_calls import X, key_of


def test_a_description_has_every_field() -> None:
    inputs: NormalInputs = {"x": X, "u": Reference(None, 3, "z", take=True), "h": zeros((2, 1), np.int8)}
    call = describe(("m", "2", None, ("z",), ("x",)), inputs)
    assert call == pb.Call(
        model="m",
        version="2",
        all_outputs=True,
        keep=["z"],
        keep_inputs=["x"],
        inputs=[
            pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[4])),
            pb.Input(name="u", reference=pb.Reference(output="z", take=True)),
            pb.Input(name="h", zeros=pb.Zeros(datatype=pb.INT8, shape=[2, 1])),
        ],
    )
    assert describe(("m", None, (), (), ()), {}) == pb.Call(model="m")


def test_names_come_in_any_iterable() -> None:
    assert names_of("m", 1, {"y"}, iter("ab")) == ("m", "1", ("y",), ("a", "b"), ())
    number: Any = np.int64(2)
    assert names_of("m", number, (), (), {"z": 0}.keys()) == ("m", "2", (), (), ("z",))
    assert names_of("m", "3", None, []) == ("m", "3", None, (), ())


@pytest.mark.parametrize("version", [True, 1.0, b"1"])
def test_a_version_is_text_or_an_integer(version: Any) -> None:
    with pytest.raises(TypeError, match="version takes a string or an integer"):
        names_of("m", version, None, ())


def test_a_name_instead_of_a_list_of_names_is_refused() -> None:
    with pytest.raises(TypeError, match=r"outputs takes a list of names.*\['prob'\]"):
        names_of("m", None, "prob", ())
    with pytest.raises(TypeError, match=r"keep takes a list of names.*\['z'\]"):
        names_of("m", None, None, "z")
    with pytest.raises(TypeError, match=r"keep_inputs takes a list of names.*\['x'\]"):
        names_of("m", None, None, (), "x")
    not_a_name: Any = [1]
    with pytest.raises(TypeError, match="keep takes names, which 1 is not"):
        names_of("m", None, None, not_a_name)


def test_a_name_to_keep_as_output_and_as_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keep and keep_inputs both have 'x', so ticket\['x'\] would be an output as"):
        names_of("m", None, [], ["x"], ["x"])


def test_parts_of_a_reference_are_the_same_call() -> None:
    z = Reference(None, 3, "z")
    assert key_of({"x": z[0:1]}) == key_of({"x": z[4:9, 2:3]}) == key_of({"x": z})


@pytest.mark.parametrize(
    "other",
    [
        {"x": X[:2]},
        {"x": X.astype(np.int32)},
        {"w": X},
        {"x": Reference(None, 1, "z")},
        {"x": Reference(None, 1, "z", take=True)},
        {"x": zeros(4)},
        {"x": X, "w": X},
    ],
)
def test_different_inputs_are_different_calls(other: Inputs) -> None:
    assert key_of({"x": X}) != key_of(other)
