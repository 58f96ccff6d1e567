"""The parts of a run, as inputs of the model."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

from headrace.server.core.calls import MAX_ZERO_BYTES
from headrace.server.core.engine_api import Part
from headrace.server.core.specs import Port
from headrace.wire.tensors import Buffer

_ZEROS = memoryview(mmap.mmap(-1, MAX_ZERO_BYTES, access=mmap.ACCESS_READ))
"""Never written to, so that the system backs all of it with one page of zeros."""


def zeros(nbytes: int) -> memoryview:
    """This many zeros, at most MAX_ZERO_BYTES. All inputs of zeros share them, so they take no memory."""
    return _ZEROS[:nbytes]


def inputs_of(part: Part) -> Iterator[tuple[Port, tuple[int, ...], Buffer]]:
    """Every input of a part: its port, its shape and its bytes."""
    plan = part.plan
    assert plan is not None
    for bound, data in zip(plan.inline, part.inline, strict=True):
        yield bound.port, bound.shape, data
    for reference, tensor in zip(plan.references, part.references, strict=True):
        yield reference.port, tensor.shape, tensor.read()
    for bound in plan.zeros:
        yield bound.port, bound.shape, zeros(bound.nbytes or 0)


def shapes_of(part: Part) -> dict[int, tuple[int, ...]]:
    """The shape of every input of a part, by the index of its port."""
    plan = part.plan
    assert plan is not None
    shapes = dict(plan.shapes)
    for reference, tensor in zip(plan.references, part.references, strict=True):
        shapes[reference.port.index] = tensor.shape
    return shapes


def joined_shapes(parts: Sequence[Part]) -> dict[Port, tuple[int, ...]]:
    """The shape of every input of a run, in which the parts are joined along the first axis."""
    plan = parts[0].plan
    assert plan is not None
    shapes = shapes_of(parts[0])
    if len(parts) > 1:
        rows = sum(part.rows for part in parts)
        shapes = {index: (rows, *shape[1:]) for index, shape in shapes.items()}
    return {port: shapes[port.index] for port in plan.spec.inputs}


def columns(parts: Sequence[Part]) -> Iterator[tuple[Port, Sequence[Buffer]]]:
    """Each input of a run with the bytes that the parts have for it, in their order."""
    plan = parts[0].plan
    assert plan is not None
    if plan.references or plan.zeros or any(part.plan is not plan for part in parts):
        columns: dict[int, tuple[Port, list[Buffer]]] = {}
        for part in parts:
            for port, _, data in inputs_of(part):
                columns.setdefault(port.index, (port, []))[1].append(data)
        yield from columns.values()
        return
    for bound, column in zip(plan.inline, zip(*[part.inline for part in parts], strict=True), strict=True):
        yield bound.port, column
