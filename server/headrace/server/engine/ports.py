"""The inputs and outputs of a model as clients see them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.errors import FailedPrecondition, quote

_DATATYPES = {
    "boolean": Datatype.BOOL,
    "u8": Datatype.UINT8,
    "u16": Datatype.UINT16,
    "u32": Datatype.UINT32,
    "u64": Datatype.UINT64,
    "i8": Datatype.INT8,
    "i16": Datatype.INT16,
    "i32": Datatype.INT32,
    "i64": Datatype.INT64,
    "f16": Datatype.FP16,
    "f32": Datatype.FP32,
    "f64": Datatype.FP64,
    "bf16": Datatype.BF16,
    "string": Datatype.BYTES,
}
"""By the runtime's name. Other types have no encoding on the wire, or take less than a byte per element."""


def ports_of(model: str, kind: str, ports: Sequence[ov.Output]) -> tuple[Port, ...]:
    """The inputs or outputs of a model as read; `kind` is "input" or "output".

    Raises FailedPrecondition for elements of a type that has no encoding on the wire.
    """
    names = names_of(kind, ports)
    return tuple(
        Port(
            index,
            names[index],
            _datatype(model, kind, names[index][0], port),
            _shape(port.get_partial_shape()),
        )
        for index, port in enumerate(ports)
    )


def row_shape(port: Port) -> tuple[int, ...]:
    """The shape of one row: all axes but the first."""
    return tuple(dimension.min for dimension in port.shape[1:]) if port.shape else ()


def smallest_shape(port: Port) -> tuple[int, ...]:
    """A shape that the port admits, with as few elements as possible but not none."""
    if port.shape is None:
        return (1,)
    return tuple(1 if dimension.admits(1) else dimension.min for dimension in port.shape)


def row_bytes(port: Port) -> int:
    """Bytes of one row."""
    return math.prod(row_shape(port)) * ITEMSIZE[port.datatype]


def names_of(kind: str, ports: Sequence[ov.Output]) -> list[tuple[str, ...]]:
    """Every name of each port, sorted. A port without one is named `kind_N`, or `kind_N_` if that name is taken.

    A name that several ports share belongs to the first of them: ports that share a name carry the same data.
    """
    given = {name for port in ports for name in port.get_names()}
    taken: set[str] = set()
    result: list[tuple[str, ...]] = []
    for index, port in enumerate(ports):
        names = sorted(_own_names(port) - taken)
        if not names:
            generated = f"{kind}_{index}"
            while generated in given:
                generated += "_"
            names = [generated]
            given.add(generated)
        taken.update(names)
        result.append(tuple(names))
    return result


def _own_names(port: ov.Output) -> set[str]:
    """The names of a port. To the runtime an input also has those of the outputs to which it is passed through."""
    names: set[str] = port.get_names()
    consumers = (target.get_node() for target in port.get_target_inputs())
    passed = (each.output(0).get_names() for each in consumers if each.get_type_name() == "Result")
    return names.difference(*passed) or names


def _datatype(model: str, kind: str, name: str, port: ov.Output) -> Datatype:
    type_name = port.get_element_type().get_type_name()
    datatype = _DATATYPES.get(type_name)
    if datatype is None:
        reason = f"{kind} {quote(name)} has elements of type {type_name}, which has no encoding on the wire"
        raise FailedPrecondition(f"model {quote(model)} cannot be served: {reason}")
    return datatype


def _shape(shape: ov.PartialShape) -> tuple[Dimension, ...] | None:
    if shape.rank.is_dynamic:
        return None
    return tuple(Dimension(dimension.min_length, dimension.max_length) for dimension in shape)
