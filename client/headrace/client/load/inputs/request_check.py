"""Checks what a run will send against the model, so that no load is sent that the server can only refuse."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.client.load.callers.caller import Inputs, Request
from headrace.client.load.record.run import Protocol
from headrace.client.protocol.models import Dimension, Model, Port
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import quote


def check_outputs(model: Model, request: Request) -> None:
    """Raises UsageError for an output that the model does not have, or that is named twice."""
    for option, names in (("--outputs", request.outputs or ()), ("--keep", request.keep)):
        seen = set[Port]()
        for name in names:
            port = next((each for each in model.outputs if name in (each.name, *each.names)), None)
            if port is None:
                known = ", ".join(map(str, model.outputs)) or "none"
                raise UsageError(
                    f"{option}: model {quote(model.name)} has no output {quote(name)}; its outputs: {known}"
                )
            if port in seen:
                raise UsageError(f"{option} names output {quote(port.name)} twice")
            seen.add(port)


def check_shapes(model: Model, sets: Sequence[Inputs], protocol: Protocol) -> None:
    """Raises UsageError for an input whose shape the model does not take."""
    for port in model.inputs:
        if protocol == "oip" and port.shape == (None,):
            continue  # the only way to write any rank in that protocol
        for shape in dict.fromkeys(inputs[port.name].shape for inputs in sets):
            if port.shape is not None and not _fits(shape, port.shape):
                found = f"input {quote(port.name)} has shape [{','.join(map(str, shape))}]"
                raise UsageError(f"{found}, but model {quote(model.name)} takes {port}")


def _fits(shape: Sequence[int], dimensions: Sequence[Dimension]) -> bool:
    return len(shape) == len(dimensions) and all(map(_takes, dimensions, shape))


def _takes(dimension: Dimension, size: int) -> bool:
    if dimension is None:
        return True
    if isinstance(dimension, int):
        return size == dimension
    least, most = dimension
    return least <= size and (most is None or size <= most)
