"""Refuses inputs without elements where the runtime would answer them with an earlier run's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import openvino as ov

from headrace.server.core.specs import Dimension, Port
from headrace.server.engine.graph.shapes import follow_when_empty


def without_empty_inputs(model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """The inputs, with at least one element required in each dynamic dimension where an empty one would be unsafe."""
    may_be_empty = any(dimension.min == 0 for port in inputs for dimension in port.shape or ())
    if not may_be_empty or follow_when_empty(model, inputs):
        return tuple(inputs)
    return tuple(replace(port, shape=port.shape and tuple(map(_not_empty, port.shape))) for port in inputs)


def _not_empty(dimension: Dimension) -> Dimension:
    return dimension if dimension.static else Dimension(max(1, dimension.min), dimension.max)
