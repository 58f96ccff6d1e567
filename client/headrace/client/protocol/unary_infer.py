"""The unary Infer as bytes. Pure.

Request and response have the shape of a frame (a message in field 1, tensors in field 2), so they are written and read
as frames, without copying large tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.client.protocol.call_description import Names, describe
from headrace.client.protocol.errors import broken_contract
from headrace.client.protocol.inputs import NormalInputs, Reference, Zeros
from headrace.client.protocol.layouts import Layout, Outputs
from headrace.v1 import inference_pb2 as pb
from headrace.wire.durations import timeout_us
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.frames import join_frame, parse_frame
from headrace.wire.tensors import to_wire


class InferResult(NamedTuple):
    """The outputs by name, and the times that the server measured, in microseconds."""

    outputs: Outputs
    queued_us: int
    running_us: int


def infer_request(names: Names, inputs: NormalInputs, timeout: float | None, priority: int) -> bytes:
    """The message. Raises InvalidArgument for an element without a datatype, and for a reference."""
    for name, value in inputs.items():
        if isinstance(value, Reference):
            raise InvalidArgument(f"input {quote(name)} is a reference; only streams take references")
    request = pb.InferRequest(
        call=describe(names, inputs),
        timeout_us=timeout_us(timeout),
        priority=priority,
    )
    inline = [np.asarray(value) for value in inputs.values() if not isinstance(value, Zeros)]
    tensors = [to_wire(array)[2] for array in inline]
    return join_frame(request.SerializeToString(), tensors)


def infer_result(response: bytes, outputs: Sequence[str] | None) -> InferResult:
    """The result in a response. Raises Internal for a response that breaks the contract."""
    try:
        message, tensors = parse_frame(response, pb.InferResponse())
        layout = Layout(message.outputs)
        if len(tensors) != layout.count:
            raise InvalidArgument(f"{len(tensors)} tensors for {layout.count} outputs")
        return InferResult(layout.arrays(outputs, tensors), message.queued_us, message.running_us)
    except InvalidArgument as error:
        raise broken_contract(error) from None
