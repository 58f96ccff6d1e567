"""Compares the ports of a model with those that its operator has written down."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.port_options import ExpectedPort
from headrace.server.engine.ports import ports_of
from headrace.server.engine.preparing.shapes import partial_shape
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import quote

ONLY = "*"


def check_expected(name: str, model: ov.Model, expected: Sequence[ExpectedPort]) -> None:
    """Raises ValueError with a clause that names the file and the line of a port that the model does not have so."""
    if not expected:
        return
    ports = {"input": ports_of(name, "input", model.inputs), "output": ports_of(name, "output", model.outputs)}
    for each in expected:
        port = _find(ports[each.kind], each)
        what = f"{each.origin} does not fit the model: its {each.kind} {quote(port.name)}"
        if each.datatype and Datatype[each.datatype] is not port.datatype:
            raise ValueError(f"{what} has the datatype {port.datatype.name}, not {each.datatype}")
        if each.shape and not _fits(model, port, each):
            shape = "any shape" if port.shape is None else f"the shape {','.join(map(str, port.shape))}"
            raise ValueError(f"{what} has {shape}, not {each.shape}")


def _find(ports: tuple[Port, ...], expected: ExpectedPort) -> Port:
    listed = ", ".join(quote(port.name, 40) for port in ports[:8])
    if expected.name == ONLY:
        if len(ports) != 1:
            raise ValueError(f"{expected.origin} is for a model with one {expected.kind}; it has {listed}")
        return ports[0]
    for port in ports:
        if expected.name in port.names:
            return port
    raise ValueError(f"it has no {expected.kind} {quote(expected.name)} ({expected.origin}); it has {listed}")


def _fits(model: ov.Model, port: Port, expected: ExpectedPort) -> bool:
    own = (model.inputs if expected.kind == "input" else model.outputs)[port.index].get_partial_shape()
    return bool(own.compatible(partial_shape(expected.shape, own)))
