"""Inputs that fit the ports of a model: checked before they are sent, and converted where nothing is lost. Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.call_description import Names
from headrace.client.protocol.inputs import NormalInputs, Reference, Zeros
from headrace.client.protocol.models import Dimension, Model, Port
from headrace.client.protocol.suggestions import did_you_mean
from headrace.wire.dtypes import Datatype, datatype_of
from headrace.wire.errors import InvalidArgument, NotFound, listed, quote

Array: TypeAlias = npt.NDArray[Any]


def depends_on_ports(inputs: NormalInputs, plain: Collection[str]) -> bool:
    """Whether only the model's ports tell which datatype to send: for plain numbers, and arrays of float64."""
    return bool(plain) or any(isinstance(value, np.ndarray) and value.dtype == np.float64 for value in inputs.values())


def fit(model: Model, names: Names, inputs: NormalInputs, plain: Container[str]) -> NormalInputs:
    """The inputs as the model takes them. The values of the inputs named in `plain` are Python numbers.

    Raises InvalidArgument for inputs that the model does not take, and NotFound for outputs that it does not have.
    """
    ports = _by_name(model.inputs)
    for name in inputs:
        if name not in ports:
            raise InvalidArgument(_unknown("input", name, model, model.inputs))
    given = {ports[name] for name in inputs}
    for port in model.inputs:
        if port not in given:
            raise InvalidArgument(f"input {quote(port.name)} of model {quote(model.name)} is missing")
    outputs = _by_name(model.outputs)
    for name in (*(names[2] or ()), *names[3]):
        if name not in outputs:
            raise NotFound(_unknown("output", name, model, model.outputs))
    for name in names[4]:
        if name not in ports:
            raise NotFound(_unknown("input", name, model, model.inputs))
    return {name: _fit(ports[name], name, value, name in plain) for name, value in inputs.items()}


def _fit(port: Port, name: str, value: Array | Reference | Zeros, plain: bool) -> Array | Reference | Zeros:
    if isinstance(value, Reference):
        return value
    if port.datatype in Datatype.__members__ and datatype_of(value.dtype) is not Datatype[port.datatype]:
        if isinstance(value, Zeros) or not (plain or value.dtype == np.float64):
            raise InvalidArgument(_wrong_datatype(port, name, value.dtype))
        value = _convert(port, name, value, plain)
    if port.shape is not None and not _admits(port.shape, value.shape):
        raise InvalidArgument(_wrong_shape(port, name, value.shape))
    return value


def _by_name(ports: Iterable[Port]) -> dict[str, Port]:
    return {name: port for port in ports for name in (port.name, *port.names)}


def _unknown(what: str, name: str, model: Model, ports: Sequence[Port]) -> str:
    meant = did_you_mean(name, list(_by_name(ports)))
    there = listed([port.name for port in ports], len(ports)) or "none"
    return f"model {quote(model.name)} has no {what} {quote(name)}{meant}; it has {there}"


# Datatypes


def _convert(port: Port, name: str, array: Array, plain: bool) -> Array:
    dtype = port.dtype
    if dtype.hasobject or array.dtype.hasobject:
        raise InvalidArgument(_wrong_datatype(port, name, array.dtype))
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
        changed = _changed(array, converted, plain)
    if changed.any():
        raise InvalidArgument(
            f"input {quote(name)}: {np.count_nonzero(changed)} of {array.size} values, such as {array[changed][0]!s}, "
            f"would change as {port.datatype}, which the model takes; if they may, write {_cast(dtype)}"
        )
    return converted


def _changed(array: Array, converted: Array, plain: bool) -> Array:
    """Which values a conversion has changed. A plain float has no precision of its own to lose, only a range."""
    both_nan = (array != array) & (converted != converted)
    if plain and array.dtype.kind == "f" and converted.dtype.kind not in "biu":
        return np.asarray(np.isinf(converted.astype(np.float64)) & ~np.isinf(array))
    same = converted.astype(array.dtype) == array
    if array.dtype.kind in "iu" and converted.dtype.kind not in "biu":
        same &= np.abs(converted.astype(np.float64)) < 2.0**63  # beyond, converting back is undefined
    return np.asarray(~(same | both_nan))


def _wrong_datatype(port: Port, name: str, dtype: np.dtype[Any]) -> str:
    given = datatype_of(dtype)
    text = f"input {quote(name)} has datatype {given.name}; the model takes {port.datatype}"
    if port.datatype == "BYTES":
        return f"{text}: give str or bytes"
    return text if given is Datatype.BYTES else f"{text}: write {_cast(port.dtype)}"


def _cast(dtype: np.dtype[Any]) -> str:
    modules = {"bool": "", "bfloat16": "ml_dtypes."}
    return f".astype({modules.get(dtype.name, 'np.')}{dtype.name})"


# Shapes


def _admits(dimensions: Sequence[Dimension], shape: Sequence[int]) -> bool:
    return len(dimensions) == len(shape) and all(map(_admits_size, dimensions, shape))


def _admits_size(dimension: Dimension, size: int) -> bool:
    if dimension is None or isinstance(dimension, int):
        return dimension in (None, size)
    least, most = dimension
    return least <= size and (most is None or size <= most)


def _wrong_shape(port: Port, name: str, shape: Sequence[int]) -> str:
    dimensions = port.shape or ()
    _, _, takes = str(port).rpartition(" ")
    text = f"input {quote(name)} has shape {list(shape)}; the model takes {takes}"
    if len(shape) != len(dimensions):
        hint = ": write [np.newaxis] after it" if _admits(dimensions, (1, *shape)) else ""
        return f"{text}, of {len(dimensions)} dimensions and not {len(shape)}{hint}"
    return text
