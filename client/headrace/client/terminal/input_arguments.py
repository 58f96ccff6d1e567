"""What a command line says of inputs, as arrays of the model's datatypes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.models import Dimension, Model, Port
from headrace.wire.dtypes import Datatype, datatype_of
from headrace.wire.errors import InvalidArgument, quote

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

MADE = ("random", "zeros")
MAX_BYTES = (1 << 31) - 1
"""No message holds more."""
WORD_BYTES = 8
"""What a random element of BYTES counts, roughly."""


class UsageError(Exception):
    """What was asked for cannot be; the text is one sentence for the user."""


class Asked(NamedTuple):
    """What is asked for an input: a value and, for one that is made, a shape."""

    value: str
    shape: str | None = None


def input_arrays(
    model: Model, inputs: Sequence[str], shapes: Sequence[str] = (), seed: int | None = None
) -> dict[str, Array]:
    """The arrays of `NAME=VALUE` for each input of the model, with `NAME:SHAPE` for dynamic ones.

    A value is `random`, `zeros`, a .npy or .json file, or JSON itself. Raises UsageError.
    """
    asked = asked_inputs(model, inputs, shapes)
    for port in model.inputs:
        if port not in asked:
            raise UsageError(f"model {quote(model.name)} needs input {port} too: --input {port.name}=random")
    random = np.random.default_rng(seed)
    return {port.name: input_array(port, each, random) for port, each in asked.items()}


def asked_inputs(
    model: Model, inputs: Sequence[str], shapes: Sequence[str], otherwise: str | None = None
) -> dict[Port, Asked]:
    """What is asked for each input; for those that are not named `otherwise`, if that is given. Raises UsageError."""
    given = dict(_named(model, inputs, "=", "--input x=random"))
    sized = dict(_named(model, shapes, ":", "--shape x:1,3,224,224"))
    if otherwise is not None:
        given |= {port: otherwise for port in model.inputs if port not in given}
    for port in sized:
        if given.get(port) not in MADE:
            raise UsageError(f"--shape is for inputs that are random or zeros, and input {quote(port.name)} is not")
    return {port: Asked(value, sized.get(port)) for port, value in given.items()}


def _named(model: Model, texts: Sequence[str], mark: str, example: str) -> Iterator[tuple[Port, str]]:
    """Each port with what was said of it. A name may hold the mark itself, and any name of a port will do."""
    seen = set()
    names = sorted(((name, port) for port in model.inputs for name in {port.name, *port.names}), key=_longest_first)
    for text in texts:
        port, value = next(
            ((port, text[len(name) + 1 :]) for name, port in names if text.startswith(name + mark)), (None, "")
        )
        if port is None:
            name, found, _ = text.partition(mark)
            if not found:
                raise UsageError(f"{quote(text)} is not NAME{mark}..., as in {example}")
            known = ", ".join(map(str, model.inputs)) or "none"
            raise UsageError(f"model {quote(model.name)} has no input {quote(name)}; its inputs: {known}")
        if port in seen:
            raise UsageError(f"input {quote(port.name)} is given twice")
        seen.add(port)
        yield port, value


def _longest_first(named: tuple[str, Port]) -> int:
    return -len(named[0])


def input_array(port: Port, asked: Asked, random: np.random.Generator) -> Array:
    """Raises UsageError."""
    value, shape = asked
    check_datatype(port)
    try:
        if value in MADE:
            return _made(port, value, _shape_of(port, shape), random)
        if value.endswith(".npy"):
            return _from_npy(port, Path(value))
        return _from_json(port, value)
    except UsageError as error:
        raise UsageError(f"input {quote(port.name)}: {error}") from None


def check_datatype(port: Port) -> None:
    """Raises UsageError for a datatype that has no arrays here."""
    try:
        _ = port.dtype
    except KeyError:
        raise UsageError(f"input {quote(port.name)} has datatype {port.datatype}, unknown to this client") from None


def _shape_of(port: Port, text: str | None) -> Shape:
    if text is None:
        if port.shape is None:
            raise UsageError(f"any rank will do, so say which: --shape {port.name}:1,16")
        return tuple(map(_least, port.shape))
    try:
        shape = tuple(int(size) for size in text.split(",")) if text else ()
    except ValueError:
        shape = (-1,)
    if any(size < 0 for size in shape):
        raise UsageError(f"{quote(text)} is no shape; write sizes with commas, as in 1,3,224,224")
    return shape


def _least(dimension: Dimension) -> int:
    if isinstance(dimension, int):
        return dimension
    return max(1, dimension[0]) if dimension else 1


def _made(port: Port, how: str, shape: Shape, random: np.random.Generator) -> Array:
    if math.prod(shape) * (WORD_BYTES if port.datatype == "BYTES" else port.dtype.itemsize) > MAX_BYTES:
        raise UsageError(f"shape {list(shape)} does not fit in a message")
    dtype = port.dtype
    if dtype.hasobject:
        words = [b"" if how == "zeros" else random.bytes(4).hex().encode() for _ in range(math.prod(shape))]
        return _objects(words).reshape(shape)
    if how == "zeros":
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
        raise UsageError(f"{file} is no .npy file of numbers or strings") from None
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{file} holds several arrays; save one with numpy.save")
    if port.datatype == "BF16" and array.dtype == np.dtype("V2"):
        return array.view(port.dtype)  # the format has no name for bfloat16
    try:
        fits = datatype_of(array.dtype) is Datatype[port.datatype]
    except InvalidArgument:
        fits = False
    if not fits:
        raise UsageError(f"{file} holds {array.dtype}, and the model takes {_called(port)}")
    return array


def _from_json(port: Port, value: str) -> Array:
    try:
        text, source = (Path(value).read_text(), value) if value.endswith(".json") else (value, quote(value))
    except OSError as error:
        raise UsageError(f"{value} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{value} is no text") from None
    try:
        return converted(port, json.loads(text), source)
    except json.JSONDecodeError as error:
        if value.endswith(".json"):
            raise UsageError(f"{value} is no JSON: {error}") from None
        raise UsageError(f"{source} is none of random, zeros, a .npy file, a .json file, and JSON") from None
    except RecursionError:
        raise UsageError(f"{source} is nested too deeply") from None


def converted(port: Port, value: object, source: str) -> Array:
    """JSON as the model's datatype; what would lose its meaning on the way is an error. Raises UsageError."""
    try:
        # Strings keep their own lengths: NumPy's are padded, and lose zeros at their ends.
        array = np.asarray(value, np.object_ if port.dtype.hasobject else None)
    except ValueError:
        raise UsageError(f"{source} has rows of different lengths") from None
    kinds = {"O": "", "b": "b", "i": "iu", "u": "iu"}.get(port.dtype.kind, "iuf")
    words = port.dtype.hasobject and all(isinstance(element, str) for element in array.flat)
    if array.size and array.dtype.kind not in kinds and not words:
        raise UsageError(f"{source} does not hold values of {_called(port)}")
    if array.size and port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise UsageError(f"{source} holds values outside of {port.datatype}: {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):
        return array.astype(port.dtype)


def _called(port: Port) -> str:
    return port.datatype if port.dtype.hasobject else f"{port.datatype} ({port.dtype.name})"
