"""The parameters of a request: those that mean something here, and those that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.limits import MAX_PRIORITY

_INTEGERS = ("int64_param", "uint64_param")
_KINDS = {
    "sequence_id": (*_INTEGERS, "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": _INTEGERS,
    "timeout": _INTEGERS,
    "binary_data_output": ("bool_param",),
    "triton_enable_empty_final_response": ("bool_param",),
}
"""Reserved parameters, and what they may hold."""


@dataclass(frozen=True, slots=True)
class Options:
    """`timeout` in seconds, 0 for none; `priority` is the core's."""

    timeout: float = 0.0
    priority: int = 0
    sequence: str = ""
    """The first parameter of a sequence that was given."""


NO_OPTIONS = Options()


def read_options(parameters: Mapping[str, pb.InferParameter]) -> Options:
    """What is not known is ignored, unless it is reserved. Raises InvalidArgument."""
    for name in parameters:
        value = parameters[name]
        kind = value.WhichOneof("parameter_choice")
        if name in _KINDS:
            if kind not in _KINDS[name]:
                takes = " or ".join(_KINDS[name])
                raise InvalidArgument(f"parameter {quote(name)} is {kind or 'nothing'}, it takes {takes}")
        elif name.startswith("triton_"):
            raise InvalidArgument(f"there is no parameter {quote(name)}; what begins with triton_ is reserved")
    timeout, priority = _integer(parameters, "timeout"), _integer(parameters, "priority")
    return Options(timeout * 1e-6, _urgency(priority), _sequence(parameters))


def _sequence(parameters: Mapping[str, pb.InferParameter]) -> str:
    """The parameter that makes a request part of a sequence: an id of 0, or an empty one, is none."""
    for name in ("sequence_id", "sequence_start", "sequence_end"):
        if name in parameters:
            value = parameters[name]
            kind = value.WhichOneof("parameter_choice")
            if kind is not None and getattr(value, kind):
                return name
    return ""


def _integer(parameters: Mapping[str, pb.InferParameter], name: str) -> int:
    if name not in parameters:
        return 0
    value = parameters[name]
    number = value.uint64_param if value.HasField("uint64_param") else value.int64_param
    if number < 0:
        raise InvalidArgument(f"parameter {quote(name)} is {number}, it must not be negative")
    return number


def _urgency(priority: int) -> int:
    """Theirs begin with 1, the most urgent, and 0 is none; the core's end with 9."""
    return max(0, MAX_PRIORITY + 1 - priority) if priority else 0
