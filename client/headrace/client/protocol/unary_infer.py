"""The unary Infer as bytes. Pure.

Request and answer have the shape of a frame (a message in field 1, tensors in field 2), so they are
written and read as such, without copies of large tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.calls import describe
from headrace.client.protocol.inputs import Inputs, Reference, Zeros, normalised
from headrace.client.protocol.layouts import Layout
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import timeout_us
from headrace.wire.errors import Internal, InvalidArgument
from headrace.wire.frames import join_frame, parse_frame
from headrace.wire.tensors import to_wire

Outputs = Mapping[str, npt.NDArray[Any]]


class Inferred(NamedTuple):
    """An answer. The times are in microseconds."""

    outputs: Outputs
    queued: int
    running: int


def infer_request(
    model: str,
    version: str | None,
    inputs: Inputs,
    outputs: Sequence[str] | None,
    timeout: float | None,
    priority: int,
) -> bytes:
    """Raises InvalidArgument for a dtype or element without a datatype, and for a reference."""
    arrays = normalised(inputs)
    for name, value in arrays.items():
        if isinstance(value, Reference):
            raise InvalidArgument(f"input {name!r} is a reference, which only a stream can use")
    request = pb.InferRequest(
        call=describe(model, version, arrays, outputs),
        timeout_us=timeout_us(timeout),
        priority=priority,
    )
    inline = [np.asarray(value) for value in arrays.values() if not isinstance(value, Zeros)]
    tensors = [to_wire(array)[2] for array in inline]
    return join_frame(request.SerializeToString(), tensors)


def infer_answer(answer: bytes, outputs: Sequence[str] | None) -> Inferred:
    """Raises Internal for an answer that is not as the contract says."""
    try:
        message, tensors = parse_frame(answer, pb.InferResponse())
        layout = Layout(message.outputs)
        if len(tensors) != layout.count:
            raise InvalidArgument(f"{len(tensors)} tensors for {layout.count} outputs")
        return Inferred(layout.arrays(outputs, tensors), message.queued_us, message.running_us)
    except InvalidArgument as error:
        text = f"the server sent what the contract does not have: {error.message}"
        raise Internal(text) from None
