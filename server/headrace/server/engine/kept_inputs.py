"""Inputs that are kept: tensors that hold no more memory than they are charged for."""

from __future__ import annotations

from headrace.server.core.engine_api import Part, Tensor
from headrace.server.core.specs import Port
from headrace.server.engine.run_inputs import zeros
from headrace.server.engine.tensors import Data, OutputTensor
from headrace.wire.tensors import Buffer

MAX_PINNED_BYTES = 4096
"""What the memory that a kept input is a view of may be larger than the input: the rest of a message that brings one
large input. A view of more would keep memory alive that nobody is charged for, so that input is copied."""


def kept_input(part: Part, port: Port) -> Tensor:
    """The input of a part that is kept as `port`, as the client has given it."""
    plan, index = part.plan, ~port.index
    assert plan is not None
    for bound, data in zip(plan.inline, part.inline, strict=True):
        if bound.port.index == index:
            return OutputTensor(port.datatype, bound.shape, _alone(data))
    for reference, tensor in zip(plan.references, part.references, strict=True):
        if reference.port.index == index:
            return OutputTensor(port.datatype, tensor.shape, _alone(tensor.read()))
    bound = next(bound for bound in plan.zeros if bound.port.index == index)
    return OutputTensor(port.datatype, bound.shape, zeros(bound.nbytes or 0))


def _alone(data: Buffer) -> Data:
    """The same bytes, copied if they are a view of memory that is larger."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    whole = memoryview(view.obj)
    return bytes(view) if whole.nbytes - view.nbytes > MAX_PINNED_BYTES else view.toreadonly()
