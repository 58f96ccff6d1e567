"""The parameters of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.sequences import NO_STEP, Step
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.limits import MAX_PRIORITY

_INTEGERS = ("int64_param", "uint64_param")
_RESERVED = {
    "sequence_id": (*_INTEGERS, "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": _INTEGERS,
    "timeout": _INTEGERS,
    "binary_data_output": ("bool_param",),
    "triton_enable_empty_final_response": ("bool_param",),
}
"""Reserved parameters, and the fields that may hold their values."""


@dataclass(frozen=True, slots=True)
class Options:
    """`timeout`: seconds that it may wait for its run, 0 for any time; `priority` is on the core's scale; `step` is the
    place in a sequence."""

    timeout: float = 0.0
    priority: int = 0
    step: Step = NO_STEP


NO_OPTIONS = Options()


def read_options(parameters: Mapping[str, pb.InferParameter]) -> Options:
    """Read the parameters. Unknown ones are ignored, unless their names are reserved. Raises InvalidArgument."""
    for name in parameters:
        value = parameters[name]
        kind = value.WhichOneof("parameter_choice")
        if name in _RESERVED:
            if kind not in _RESERVED[name]:
                accepted = " or ".join(_RESERVED[name])
                raise InvalidArgument(f"parameter {quote(name)} must be {accepted}, but it is {kind or 'empty'}")
        elif name.startswith("triton_"):
            raise InvalidArgument(f"there is no parameter {quote(name)}; names that begin with triton_ are reserved")
    timeout, priority = _integer(parameters, "timeout"), _integer(parameters, "priority")
    return Options(timeout * 1e-6, _core_priority(priority), read_step(parameters))


def read_step(parameters: Mapping[str, pb.InferParameter]) -> Step:
    """The place in a sequence, whatever else may be wrong with the parameters.

    An id that is 0 or empty stands for none. Like Triton's, a number has 64 bits.
    """
    number: int | str = 0
    if "sequence_id" in parameters:
        value = parameters["sequence_id"]
        kind = value.WhichOneof("parameter_choice")
        number = value.string_param if kind == "string_param" else (value.int64_param or value.uint64_param) % (1 << 64)
    start, end = (name in parameters and parameters[name].bool_param for name in ("sequence_start", "sequence_end"))
    return Step(number, start, end) if number or start or end else NO_STEP


def _integer(parameters: Mapping[str, pb.InferParameter], name: str) -> int:
    if name not in parameters:
        return 0
    value = parameters[name]
    number = value.uint64_param if value.HasField("uint64_param") else value.int64_param
    if number < 0:
        raise InvalidArgument(f"parameter {quote(name)} is {number}; it must not be negative")
    return number


def _core_priority(priority: int) -> int:
    """Triton's priorities begin with 1, the most urgent, and 0 means none. The core's most urgent priority is 9."""
    return max(0, MAX_PRIORITY + 1 - priority) if priority else 0
