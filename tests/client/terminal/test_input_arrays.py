"""Inputs on the command line become arrays, or one sentence that says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from headrace.client.protocol.models import Dimension, Model, Port
from headrace.client.terminal.input_arrays import input_arrays
from headrace.client.terminal.usage_error import UsageError


def model(*inputs: Port) -> Model:
    return Model("m", "1", inputs, (), has_variables=False, slots=1)


def port(
    datatype: str = "FP32", shape: tuple[Dimension, ...] | None = (None, 3), name: str = "x", *aliases: str
) -> Port:
    return Port(name, datatype, shape, (name, *aliases))


def array_of(port: Port, value: str, *shapes: str, seed: int | None = None) -> npt.NDArray[Any]:
    return input_arrays(model(port), [f"{port.name}={value}"], shapes, seed)[port.name]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((None, 3), (1, 3)),
        (((0, 5), 3), (1, 3)),
        (((2, 8), (4, None)), (2, 4)),
        ((0, 3), (0, 3)),
        ((), ()),
    ],
)
@pytest.mark.parametrize("how", ["random", "zeros"])
def test_dynamic_sizes_are_the_smallest_but_not_empty(
    how: str, shape: tuple[Dimension, ...], size: tuple[int, ...]
) -> None:
    assert array_of(port(shape=shape), how).shape == size


@pytest.mark.parametrize(
    ("text", "size"), [("4,3", (4, 3)), ("7", (7,)), ("", ()), ("0,3", (0, 3)), (" 4 , 3 ", (4, 3))]
)
def test_a_shape_is_given_on_the_command_line(text: str, size: tuple[int, ...]) -> None:
    assert array_of(port(shape=None), "zeros", f"x:{text}").shape == size


@pytest.mark.parametrize("how", ["random", "zeros"])
@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "UINT8", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES"],
)
def test_generated_arrays_have_the_datatype_of_the_model(datatype: str, how: str) -> None:
    wanted = port(datatype)
    array = array_of(wanted, how, "x:50,3")
    assert array.dtype == wanted.dtype
    if how == "zeros":
        assert all(not element for element in array.flat)
    else:
        assert len(set(array.ravel().tolist())) > 1


def test_random_numbers_stay_in_their_range() -> None:
    numbers = array_of(port(), "random", "x:500,3")
    assert 0 <= numbers.min() < 0.1
    assert 0.9 < numbers.max() < 1
    integers = array_of(port("INT8"), "random", "x:500,3")
    assert (integers.min(), integers.max()) == (0, 99)


def test_a_seed_makes_random_inputs_repeatable() -> None:
    first, second, other = (array_of(port(), "random", "x:5,3", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        ("FP32", "[[1, 2.5, -3e2]]", [[1, 2.5, -300]]),
        ("FP16", "2", 2),
        ("BF16", "[1.5]", [1.5]),
        ("FP32", "[]", []),
        ("INT64", "[9007199254740993]", [9007199254740993]),
        ("UINT64", "[18446744073709551615]", [18446744073709551615]),
        ("UINT8", "[0, 255]", [0, 255]),
        ("BOOL", "[true, false]", [True, False]),
        ("BYTES", '["a=b", "ünïcode", "end\\u0000"]', ["a=b", "ünïcode", "end\0"]),
        ("BYTES", '"one"', "one"),
    ],
)
def test_json_is_converted(tmp_path: Path, datatype: str, text: str, value: Any) -> None:
    wanted = port(datatype)
    file = tmp_path / "x.json"
    file.write_text(text)
    for given in (text, str(file)):
        array = array_of(wanted, given)
        assert array.dtype == wanted.dtype
        assert array.tolist() == value
        assert array.shape == np.shape(value)


@pytest.mark.parametrize(
    ("datatype", "text", "said"),
    [
        ("INT64", "[1.5]", "does not hold values of INT64 (int64)"),
        ("INT64", "[true]", "does not hold values of INT64"),
        ("BOOL", "[1]", "does not hold values of BOOL"),
        ("FP32", '["1"]', "does not hold values of FP32 (float32)"),
        ("FP32", "null", "does not hold values of FP32"),
        ("FP32", '{"a": 1}', "does not hold values of FP32"),
        ("BYTES", '["a", 1]', "does not hold values of BYTES"),
        ("UINT8", "[256]", "outside UINT8: 0 to 255"),
        ("UINT8", "[-1]", "outside UINT8"),
        ("INT32", "[4294967296]", "outside INT32"),
        ("INT64", "[18446744073709551616]", "does not hold values of INT64"),
        ("FP32", "[[1, 2], [3]]", "rows of different lengths"),
        ("FP32", "photo.png", "'photo.png' is not random, zeros, a .npy file, a .json file or JSON"),
        ("FP32", "", "is not random, zeros"),
        ("FP32", "[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_does_not_fit_the_datatype_is_refused(datatype: str, text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        array_of(port(datatype), text)
    assert said in str(raised.value)
    assert str(raised.value).startswith("input 'x': ")
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP32", np.array([[1, 2, 3]], "<f4")),
        ("FP32", np.array([[1, 2, 3]], ">f4")),
        ("INT64", np.zeros((2, 3), np.int64)),
        ("BYTES", np.array(["a", "bcd"])),
        ("BYTES", np.array([b"a", b"bcd"])),
    ],
)
def test_a_file_of_the_same_datatype_is_read(tmp_path: Path, datatype: str, array: npt.NDArray[Any]) -> None:
    np.save(tmp_path / "x.npy", array)
    assert array_of(port(datatype), str(tmp_path / "x.npy")).tolist() == array.tolist()


def test_bfloat16_comes_back_from_a_file_that_cannot_name_it(tmp_path: Path) -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", array)
    read = array_of(port("BF16"), str(tmp_path / "x.npy"))
    assert read.dtype == ml_dtypes.bfloat16
    assert read.tolist() == array.tolist()


def test_a_file_of_another_dtype_names_both(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.zeros((1, 3)))
    with pytest.raises(UsageError) as raised:
        array_of(port(), str(file))
    assert str(raised.value) == f"input 'x': {file} holds float64, but the model takes FP32 (float32)"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("not NumPy's")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "broken.json").write_text("[1,")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", np.zeros(1, np.complex64))
    with (tmp_path / "many.npy").open("wb") as file:
        np.savez(file, a=np.zeros(1))
    for name, said in {
        "missing.npy": "No such file",
        "missing.json": "No such file",
        "folder.npy": "Is a directory",
        "text.npy": "is not a .npy file of numbers or strings",
        "empty.npy": "is not a .npy file of numbers or strings",
        "objects.npy": "is not a .npy file of numbers or strings",
        "many.npy": "holds several arrays",
        "complex.npy": "holds complex64",
        "bytes.json": "is not valid UTF-8",
        "broken.json": "is not valid JSON",
    }.items():
        with pytest.raises(UsageError, match=said):
            array_of(port(), str(tmp_path / name))


def test_names_may_contain_the_mark_and_any_name_of_a_port_matches() -> None:
    inputs = [port(name="a"), port(name="a=b:0"), port("FP32", (None, 3), "c", "serving:c")]
    arrays = input_arrays(model(*inputs), ["a=zeros", "a=b:0=zeros", "serving:c=zeros"], ["a=b:0:2,3", "serving:c:4,3"])
    assert {name: array.shape for name, array in arrays.items()} == {"a": (1, 3), "a=b:0": (2, 3), "c": (4, 3)}


@pytest.mark.parametrize(
    ("inputs", "shapes", "said"),
    [
        (["x"], [], "'x' is not of the form NAME=...; for example --input x=random"),
        (["z=random"], [], "model 'm' has no input 'z'; its inputs: x FP32[?,3], y FP32[any rank]"),
        (["x=random", "x=zeros"], [], "input 'x' is given twice"),
        (["x=random"], [], "model 'm' also needs input y FP32[any rank]: add --input y=random"),
        (["x=random", "y=random"], [], "input 'y': it accepts any rank; give a shape, for example --shape y:1,16"),
        (["x=[1]", "y=zeros"], ["x:1"], "--shape applies to random and zeros only, which input 'x' is not"),
        (["x=zeros", "y=zeros"], ["y:1,-1"], "input 'y': '1,-1' is not a shape; write sizes separated by commas"),
        (["x=zeros", "y=zeros"], ["y:1x3"], "input 'y': '1x3' is not a shape"),
        (["x=zeros", "y=zeros"], ["y"], "'y' is not of the form NAME:...; for example --shape"),
        (["x=random", "y=random"], ["y:99999999,99999999"], "does not fit in a message"),
    ],
)
def test_wrong_arguments_are_explained_in_a_sentence(inputs: list[str], shapes: list[str], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        input_arrays(model(port(), port(shape=None, name="y")), inputs, shapes)
    assert said in str(raised.value)


def test_an_unknown_datatype_is_refused() -> None:
    with pytest.raises(UsageError, match="datatype 99, unknown to this client"):
        array_of(port("99"), "random")


def test_an_array_survives_the_way_through_json() -> None:
    array = array_of(port(), "random", seed=0)
    assert np.array_equal(array_of(port(), json.dumps(array.tolist())), array)
