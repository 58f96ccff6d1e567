"""The parts of a run whose images have become pixels: to slots and runtime, parts with inline inputs like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headrace.server.core.calls import BoundInline, BoundReference, Plan
from headrace.server.core.engine_api import Part, Tensor, Variables
from headrace.server.core.specs import ModelSpec
from headrace.wire.tensors import Buffer

Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, ...]
MAX_PLANS = 64


@dataclass(frozen=True, slots=True)
class HeldPart:
    """An `engine_api.Part` as it was when its run began: later the core may take back what the part has."""

    plan: Plan
    inline: Sequence[Buffer]
    references: Sequence[Tensor]
    keep: Sequence[int]
    rows: int
    variables: Variables | None
    wants_variables: bool

    @classmethod
    def of(cls, part: Part) -> HeldPart:
        assert part.plan is not None
        return cls(part.plan, part.inline, part.references, part.keep, part.rows, part.variables, part.wants_variables)

    def encoded(self, ports: Mapping[int, object]) -> dict[int, tuple[Shape, Buffer]]:
        """Shape and bytes of each input, by the index of its port, that is one of `ports`."""
        inline = zip(self.plan.inline, self.inline, strict=True)
        references = zip(self.plan.references, self.references, strict=True)
        found = {bound.port.index: (bound.shape, data) for bound, data in inline if bound.port.index in ports}
        found |= {
            bound.port.index: (tensor.shape, tensor.read()) for bound, tensor in references if bound.port.index in ports
        }
        return found


class DecodedPlans:
    """The plans for runs with pixels in place of images. Equal ones are one object, because slots know plans by it.

    `spec` has the ports of the runtime.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._plans: dict[tuple[Plan, tuple[tuple[int, Shape], ...]], Plan] = {}

    def part(self, part: HeldPart, pixels: Mapping[int, Pixels]) -> HeldPart:
        """The part with these pixels, by the index of their input."""
        plan = self._plan(part.plan, tuple((index, array.shape) for index, array in pixels.items()))
        given = {bound.port.index: data for bound, data in zip(part.plan.inline, part.inline, strict=True)}
        given |= {index: array.reshape(-1).data for index, array in pixels.items()}
        kept = [
            tensor
            for bound, tensor in zip(part.plan.references, part.references, strict=True)
            if bound.port.index not in pixels
        ]
        inline = [given[bound.port.index] for bound in plan.inline]
        return replace(part, plan=plan, inline=inline, references=kept)

    def _plan(self, plan: Plan, shapes: tuple[tuple[int, Shape], ...]) -> Plan:
        found = self._plans.get((plan, shapes))
        if found is None:
            found = _decoded(plan, self._spec, dict(shapes))
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[plan, shapes] = found
        return found


def _decoded(plan: Plan, spec: ModelSpec, shapes: Mapping[int, Shape]) -> Plan:
    inline = [_pixels(bound, spec, shapes) for bound in plan.inline]
    inline += [_pixels(bound, spec, shapes) for bound in plan.references if bound.port.index in shapes]
    references = tuple(bound for bound in plan.references if bound.port.index not in shapes)
    return replace(
        plan,
        spec=spec,
        inline=tuple(inline),
        references=references,
        shapes=tuple((bound.port.index, bound.shape) for bound in (*inline, *plan.zeros)),
        fixed=all(bound.port.static_shape is not None for bound in references),
        sizes=tuple(bound.nbytes for bound in inline),
    )


def _pixels(bound: BoundInline | BoundReference, spec: ModelSpec, shapes: Mapping[int, Shape]) -> BoundInline:
    """The input that takes the place of an input of images; another one as it is."""
    shape = shapes.get(bound.port.index)
    if shape is None:
        assert isinstance(bound, BoundInline)
        return bound
    return BoundInline(spec.inputs[bound.port.index], shape, int(np.prod(shape)))
