"""Input arrays from the command line: generated, or read from files or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.models import Dimension, Model, Port
from headrace.client.terminal.input_arguments import GENERATED, InputArgument, parse_input_arguments
from headrace.client.terminal.usage_error import UsageError
from headrace.client.transport.channel import MAX_GRPC_MESSAGE_BYTES
from headrace.wire.dtypes import Datatype, datatype_of
from headrace.wire.errors import InvalidArgument, quote

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

STRING_BYTES = 8
"""The approximate size of a random element of BYTES."""


def input_arrays(
    model: Model, inputs: Sequence[str], shapes: Sequence[str] = (), seed: int | None = None
) -> dict[str, Array]:
    """The array for each input of the model, from `NAME=VALUE` arguments, and `NAME:SHAPE` for dynamic shapes.

    A value is `random`, `zeros`, a .npy or .json file, or JSON itself. Raises UsageError.
    """
    arguments = parse_input_arguments(model, inputs, shapes)
    for port in model.inputs:
        if port not in arguments:
            raise UsageError(f"model {quote(model.name)} also needs input {port}: add --input {port.name}=random")
    random = np.random.default_rng(seed)
    return {port.name: input_array(port, argument, random) for port, argument in arguments.items()}


def input_array(port: Port, argument: InputArgument, random: np.random.Generator) -> Array:
    """The array for an argument. Raises UsageError."""
    value, shape = argument
    check_datatype(port)
    try:
        if value in GENERATED:
            return _generated(port, value, _shape_of(port, shape), random)
        if value.endswith(".npy"):
            return _from_npy(port, Path(value))
        return _from_json(port, value)
    except UsageError as error:
        raise UsageError(f"input {quote(port.name)}: {error}") from None


def check_datatype(port: Port) -> None:
    """Raises UsageError for a datatype that this client does not know."""
    try:
        _ = port.dtype
    except KeyError:
        raise UsageError(f"input {quote(port.name)} has datatype {port.datatype}, unknown to this client") from None


def _shape_of(port: Port, text: str | None) -> Shape:
    if text is None:
        if port.shape is None:
            raise UsageError(f"it accepts any rank; give a shape, for example --shape {port.name}:1,16")
        return tuple(map(_smallest, port.shape))
    try:
        shape = tuple(int(size) for size in text.split(",")) if text else ()
    except ValueError:
        shape = (-1,)
    if any(size < 0 for size in shape):
        raise UsageError(f"{quote(text)} is not a shape; write sizes separated by commas, for example 1,3,224,224")
    return shape


def _smallest(dimension: Dimension) -> int:
    if isinstance(dimension, int):
        return dimension
    return max(1, dimension[0]) if dimension else 1


def _generated(port: Port, kind: str, shape: Shape, random: np.random.Generator) -> Array:
    if math.prod(shape) * (STRING_BYTES if port.datatype == "BYTES" else port.dtype.itemsize) > MAX_GRPC_MESSAGE_BYTES:
        raise UsageError(f"shape {list(shape)} does not fit in a message")
    dtype = port.dtype
    if dtype.hasobject:
        words = [b"" if kind == "zeros" else random.bytes(4).hex().encode() for _ in range(math.prod(shape))]
        return _objects(words).reshape(shape)
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape), dtype)
    if dtype.kind in "iu":
        return np.asarray(random.integers(0, 100, shape), dtype)
    return np.asarray(random.random(shape, np.float32), dtype)


def _objects(words: list[bytes]) -> Array:
    array = np.empty(len(words), np.object_)
    array[:] = words
    return array


def _from_npy(port: Port, file: Path) -> Array:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise UsageError(f"{file} is not a .npy file of numbers or strings") from None
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{file} holds several arrays; save one with numpy.save")
    if port.datatype == "BF16" and array.dtype == np.dtype("V2"):
        return array.view(port.dtype)  # the format cannot name bfloat16
    try:
        fits = datatype_of(array.dtype) is Datatype[port.datatype]
    except InvalidArgument:
        fits = False
    if not fits:
        raise UsageError(f"{file} holds {array.dtype}, but the model takes {_dtype_text(port)}")
    return array


def _from_json(port: Port, value: str) -> Array:
    try:
        text, source = (Path(value).read_text(), value) if value.endswith(".json") else (value, quote(value))
    except OSError as error:
        raise UsageError(f"{value} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{value} is not valid UTF-8") from None
    try:
        return array_from_json(port, json.loads(text), source)
    except json.JSONDecodeError as error:
        if value.endswith(".json"):
            raise UsageError(f"{value} is not valid JSON: {error}") from None
        raise UsageError(f"{source} is not random, zeros, a .npy file, a .json file or JSON") from None
    except RecursionError:
        raise UsageError(f"{source} is nested too deeply") from None


def array_from_json(port: Port, value: object, source: str) -> Array:
    """Parsed JSON as an array of the model's datatype. Raises UsageError for values that the datatype cannot hold."""
    try:
        # An object array keeps each string as it is. NumPy's own strings are padded, and lose trailing zeros.
        array = np.asarray(value, np.object_ if port.dtype.hasobject else None)
    except ValueError:
        raise UsageError(f"{source} has rows of different lengths") from None
    kinds = {"O": "", "b": "b", "i": "iu", "u": "iu"}.get(port.dtype.kind, "iuf")
    words = port.dtype.hasobject and all(isinstance(element, str) for element in array.flat)
    if array.size and array.dtype.kind not in kinds and not words:
        raise UsageError(f"{source} does not hold values of {_dtype_text(port)}")
    if array.size and port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise UsageError(f"{source} holds values outside {port.datatype}: {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):
        return array.astype(port.dtype)


def _dtype_text(port: Port) -> str:
    return port.datatype if port.dtype.hasobject else f"{port.datatype} ({port.dtype.name})"
