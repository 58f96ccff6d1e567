"""The part of a ModelInferRequest that repeats from request to request: model, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Call, Inline
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.services.oip.region import Region
from headrace.server.services.oip.typed_contents import has_contents
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, quote
from headrace.wire.tensors import MAX_RANK

_BASE_BYTES, _PORT_BYTES, _DIMENSION_BYTES = 800, 350, 32
_MEMORY_PARAMETERS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """The location of a tensor: `nbytes` bytes at `offset` of the shared memory region that is named `region`."""

    region: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How an output is returned.

    If `classes` is not 0, that many of its largest elements replace the tensor. If there is a `memory` range, the data
    goes there instead of into the response.
    """

    classes: int
    memory: MemoryRange | None
    region: Region | None = None
    """The region of `memory`, acquired when the request arrived and only for that request. None in a description."""


PLAIN_OUTPUT = OutputOptions(0, None)


@dataclass(slots=True, eq=False)
class Description:
    """A parsed description. `defined` is its call, which the core binds to a model."""

    defined: DefinedCall
    input_memory: Sequence[MemoryRange | None]
    """For each input."""
    typed: Sequence[pb.InferTensorContents] | None
    """The contents of all inputs, if they are typed, which makes them a part of the description. Not converted yet."""
    outputs: Sequence[OutputOptions]
    """For each requested output; empty if all are plain."""
    plain: bool = field(init=False)
    """Whether all inputs are raw contents and all outputs are plain."""

    def __post_init__(self) -> None:
        self.plain = self.typed is None and not any(self.input_memory) and not self.outputs

    @property
    def nbytes(self) -> int:
        """An estimate of what it occupies without typed contents, once it is bound to a model."""
        call = self.defined.call
        ports = len(call.inputs) + len(call.outputs)
        dimensions = sum([len(source.shape) for source in call.inputs if isinstance(source, Inline)])
        return _BASE_BYTES + _PORT_BYTES * ports + _DIMENSION_BYTES * dimensions


def parse_description(data: bytes, *, has_raw_contents: bool) -> Description:
    """Parse a description. Raises InvalidArgument."""
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidArgument("the message is not a valid ModelInferRequest") from None
    inputs = [_input(message) for message in request.inputs]
    outputs = [_output_options(message) for message in request.outputs]
    call = Call(
        request.model_name,
        request.model_version,
        tuple(inputs),
        tuple(message.name for message in request.outputs),
        not request.outputs,
        (),
    )
    input_memory = [_memory_range("input", message.name, message.parameters) for message in request.inputs]
    return Description(
        DefinedCall(call, 0),
        input_memory,
        _typed_contents(request, input_memory, has_raw_contents=has_raw_contents),
        outputs if any(options != PLAIN_OUTPUT for options in outputs) else (),
    )


def _input(message: pb.ModelInferRequest.InferInputTensor) -> Inline:
    datatype = Datatype.__members__.get(message.datatype)
    if datatype is None:
        raise InvalidArgument(f"input {quote(message.name)} has the unknown datatype {quote(message.datatype)}")
    rank = len(message.shape)
    if rank > MAX_RANK:
        raise InvalidArgument(f"input {quote(message.name)}: a shape has {rank} dimensions; the limit is {MAX_RANK}")
    return Inline(message.name, datatype, tuple(message.shape))


def _typed_contents(
    request: pb.ModelInferRequest,
    input_memory: Sequence[MemoryRange | None],
    *,
    has_raw_contents: bool,
) -> Sequence[pb.InferTensorContents] | None:
    """The contents of all inputs, if any of them has some."""
    names = [message.name for message in request.inputs if has_contents(message.contents)]
    if not names:
        return None
    if has_raw_contents:
        raise InvalidArgument(f"input {quote(names[0])} has contents, but the request also has raw_input_contents")
    for message, memory in zip(request.inputs, input_memory, strict=True):
        if memory is not None:
            raise InvalidArgument(
                f"input {quote(message.name)} is in shared memory, but input {quote(names[0])} has contents"
            )
    return [message.contents for message in request.inputs]


def _output_options(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> OutputOptions:
    classes = 0
    if "classification" in output.parameters:
        owner = f"output {quote(output.name)}"
        classes = _unsigned(owner, "classification", output.parameters["classification"])
        if not classes:
            raise InvalidArgument(f"{owner}: classification is 0; it must be at least 1")
    memory = _memory_range("output", output.name, output.parameters)
    return OutputOptions(classes, memory) if classes or memory else PLAIN_OUTPUT


def _memory_range(kind: str, name: str, parameters: Mapping[str, pb.InferParameter]) -> MemoryRange | None:
    present = [key for key in _MEMORY_PARAMETERS if key in parameters]
    if not present:
        return None
    owner = f"{kind} {quote(name)}"
    region = parameters.get(_MEMORY_PARAMETERS[0])
    if region is None or not region.string_param:
        raise InvalidArgument(f"{owner} has {present[0]}, but shared_memory_region does not name a region")
    offset, nbytes = (
        _unsigned(owner, key, parameters[key]) if key in parameters else 0 for key in _MEMORY_PARAMETERS[1:]
    )
    return MemoryRange(region.string_param, offset, nbytes)


def _unsigned(owner: str, key: str, value: pb.InferParameter) -> int:
    kind = value.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidArgument(f"{owner}: {key} must be int64_param or uint64_param, but it is {kind or 'empty'}")
    number = value.int64_param if kind == "int64_param" else value.uint64_param
    if number < 0:
        raise InvalidArgument(f"{owner}: {key} is {number}; it must not be negative")
    return number
