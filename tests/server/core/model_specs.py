"""Small models for tests of the core, and tensors for them that take no memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from headrace.server.core.engine_api import Part, Slices
from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.wire.dtypes import ITEMSIZE, Datatype

Size = int | None | tuple[int, int]
"""A dimension: static, dynamic, or between bounds."""
Shape = tuple[int, ...]


class FakeTensor:
    """An output that takes no memory, however large it is."""

    def __init__(self, datatype: Datatype, shape: Shape, whole: FakeTensor | None = None) -> None:
        self.datatype = datatype
        self.shape = shape
        self.whole = whole
        """What it is a slice of."""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEMSIZE[self.datatype]

    def read(self, slices: Sequence[tuple[int, int]] = ()) -> bytes:
        raise AssertionError("the core reads no tensor")

    def sliced(self, slices: Slices) -> FakeTensor:
        shape = tuple(stop - start for start, stop in slices) + self.shape[len(slices) :]
        return FakeTensor(self.datatype, shape, self)


def port(index: int, names: str, *sizes: Size, datatype: Datatype = Datatype.FP32) -> Port:
    """A port; `names` are separated by bars."""
    return Port(index, tuple(sorted(names.split("|"))), datatype, tuple(dimension(size) for size in sizes))


def dimension(size: Size) -> Dimension:
    match size:
        case None:
            return Dimension(0, -1)
        case int():
            return Dimension(size, size)
        case _:
            return Dimension(*size)


def model(
    name: str,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    slots: int = 1,
    version: str = "1",
    direct: bool = False,
    batch: int = 1,
) -> ModelSpec:
    return ModelSpec(name, version, tuple(inputs), tuple(outputs), False, slots, direct, batch)


def step(slots: int = 1) -> ModelSpec:
    """x: f32[4] -> y: f32[4], z: f32[?]."""
    return model("step", [port(0, "x", 4)], [port(0, "y|yes", 4), port(1, "z", None)], slots=slots)


def add(slots: int = 1) -> ModelSpec:
    """a, b: f32[4] -> y: f32[4]."""
    return model("add", [port(0, "a", 4), port(1, "b", 4)], [port(0, "y", 4)], slots=slots)


def grow(slots: int = 1) -> ModelSpec:
    """x: f32[?] -> y: f32[?]."""
    return model("grow", [port(0, "x", None)], [port(0, "y", None)], slots=slots)


def many(slots: int = 1, *, batch: int = 4, direct: bool = True) -> ModelSpec:
    """x: f32[?] -> y: f32[?], big: f32[?,1024]; batches."""
    outputs = [port(0, "y", None), port(1, "big", None, 1024)]
    return model("many", [port(0, "x", None)], outputs, slots=slots, direct=direct, batch=batch)


def outputs_of(
    part: Part, sizes: Mapping[str, int] = {}, *, size: int | None = None
) -> tuple[list[FakeTensor], list[FakeTensor]]:
    """What a run sends and keeps of a part.

    `sizes` are those of dynamic outputs by name, `size` is that of all others: unless given the rows of the part, or 4.
    """
    plan = part.plan
    assert plan is not None
    kept = [plan.keep[position] for position in part.keep]
    tensors = {
        each.index: FakeTensor(
            each.datatype,
            _shape_given(part, ~each.index)
            if each.is_kept_input
            else shape_of(each, sizes, (part.rows or None) if size is None else size),
        )
        for each in (*plan.outputs, *kept)
    }
    return [tensors[each.index] for each in plan.outputs], [tensors[each.index] for each in kept]


def _shape_given(part: Part, index: int) -> Shape:
    """The shape of an input of a part."""
    plan = part.plan
    assert plan is not None
    referred = zip(plan.references, part.references, strict=True)
    shapes = dict(plan.shapes) | {bound.port.index: tensor.shape for bound, tensor in referred}
    return shapes[index]


def shape_of(each: Port, sizes: Mapping[str, int], size: int | None = None) -> Shape:
    """The shape of a tensor for a port; dynamic dimensions have a size by the port's name, or `size`, or 4."""
    static = each.static_shape
    if static is not None:
        return static
    assert each.shape is not None
    return tuple(
        axis.min if axis.static else sizes.get(each.name, max(4, axis.min) if size is None else size)
        for axis in each.shape
    )
