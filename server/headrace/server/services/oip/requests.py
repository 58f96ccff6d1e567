"""From a ModelInferRequest to the core's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf.message import DecodeError

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Call, Inline
from headrace.server.core.quotas import Quota
from headrace.server.core.state import DefinedCall
from headrace.server.services.oip.messages import RequestParts
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.server.services.oip.shared_memory import Region, Regions
from headrace.server.services.oip.typed_contents import contents_to_bytes, has_contents
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, PermissionDenied, ResourceExhausted, quote
from headrace.wire.lru import LruCache
from headrace.wire.tensors import Buffer

MAX_DESCRIPTIONS = 1024
"""Descriptions that are cached by their bytes."""
MAX_CACHED_DESCRIPTION_BYTES = 16 << 10
"""Larger descriptions are not cached."""
_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is in shared memory."""

    region: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How an output is returned: as its `top` classes instead of the tensor, and into a place in shared memory."""

    top: int
    place: Place | None
    region: Region | None = None
    """The region that the name in `place` meant when the request arrived, held for that request alone; a description
    has none."""


PLAIN = OutputOptions(0, None)


@dataclass(slots=True, eq=False)
class Description:
    """What repeats from request to request. `defined` is the call that the core binds to a model."""

    defined: DefinedCall
    places: Sequence[Place | None]
    """Of each input."""
    typed: Sequence[bytes] | None
    """The bytes of all inputs, when they came with the description."""
    outputs: Sequence[OutputOptions]
    """Of each output that was named; empty when all are plain."""
    plain: bool = field(init=False)
    """Every input is raw contents, and every output too."""

    def __post_init__(self) -> None:
        self.plain = self.typed is None and not any(self.places) and not self.outputs


@dataclass(slots=True)
class Request:
    """`nbytes` is what its inputs take besides the message.

    `outputs` are those of the description, with their regions, which `Requests.let_go` takes back.
    """

    description: Description
    inline: Sequence[Buffer]
    options: Options
    nbytes: int
    outputs: Sequence[OutputOptions] = ()


class Requests:
    """Reads requests, and caches descriptions.

    `regions` None: shared memory is not allowed. `budget` bounds what is read from there.
    """

    def __init__(self, regions: Regions | None, budget: Quota) -> None:
        self._regions = regions
        self._budget = budget
        self._descriptions: LruCache[bytes, Description] = LruCache(MAX_DESCRIPTIONS)

    def read(self, parts: RequestParts) -> Request:
        """Raises HeadraceError with a message for the client."""
        if parts.error is not None:
            raise parts.error
        options = read_options(parts.parameters) if parts.parameters else NO_OPTIONS
        described = parts.described
        description = self._descriptions.get(described)
        if description is None:
            description = _describe(described, with_raw=bool(parts.raw))
            if description.typed is None and len(described) <= MAX_CACHED_DESCRIPTION_BYTES:
                self._descriptions.put(described, description)
        raw = parts.raw
        if description.plain and len(raw) == len(description.places):
            return Request(description, raw, options, 0)
        nbytes = sum([place.nbytes for place in description.places if place is not None])
        if nbytes and not self._budget.fits(nbytes):
            raise ResourceExhausted(f"the inputs in shared memory have {nbytes} bytes, more than the server has left")
        return Request(description, self._inline(description, raw), options, nbytes, self._bind(description.outputs))

    def let_go(self, outputs: Sequence[OutputOptions]) -> None:
        """The request of these outputs is answered, or will not be: it writes to no region any more."""
        for each in outputs:
            if each.region is not None:
                self._allowed().let_go(each.region)

    def _bind(self, outputs: Sequence[OutputOptions]) -> Sequence[OutputOptions]:
        """The same with their regions, held: before the run, which would be in vain if a region were missing."""
        bound: list[OutputOptions] = []
        try:
            for each in outputs:
                place = each.place
                region = None if place is None else self._allowed().hold(place.region, place.offset, place.nbytes)
                bound.append(each if region is None else replace(each, region=region))
        except BaseException:
            self.let_go(bound)
            raise
        return bound

    def _inline(self, description: Description, raw: Sequence[Buffer]) -> Sequence[Buffer]:
        if description.typed is not None:
            return description.typed
        inputs = len(description.places)
        if not any(description.places):
            if len(raw) != inputs:
                # Without any raw contents each input lacks its data: the core names the first.
                return [b""] * inputs if not raw else _wrong_count(len(raw), inputs)
            return raw
        outside = sum(place is None for place in description.places)
        if len(raw) != outside:
            _wrong_count(len(raw), outside)
        rest = iter(raw)
        regions = self._allowed()
        return [
            next(rest) if place is None else regions.read(place.region, place.offset, place.nbytes)
            for place in description.places
        ]

    def _allowed(self) -> Regions:
        if self._regions is None:
            raise PermissionDenied("this server does not take shared memory; start it with --shared-memory")
        return self._regions


def _wrong_count(found: int, wanted: int) -> Sequence[Buffer]:
    raise InvalidArgument(f"{found} raw_input_contents for {wanted} inputs that are not in shared memory")


def _parse(message: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        raise InvalidArgument("a message is not a valid ModelInferRequest") from None


def _describe(described: bytes, *, with_raw: bool) -> Description:
    request = _parse(described)
    inputs = [_input(each) for each in request.inputs]
    outputs = [_output(each) for each in request.outputs]
    call = Call(
        request.model_name,
        request.model_version,
        tuple(inputs),
        tuple(each.name for each in request.outputs),
        not request.outputs,
        (),
    )
    places = [_place("input", each.name, each.parameters) for each in request.inputs]
    return Description(
        DefinedCall(call, 0),
        places,
        _typed(request, inputs, places, with_raw=with_raw),
        outputs if any(each != PLAIN for each in outputs) else (),
    )


def _input(given: pb.ModelInferRequest.InferInputTensor) -> Inline:
    datatype = Datatype.__members__.get(given.datatype)
    if datatype is None:
        raise InvalidArgument(f"input {quote(given.name)} has datatype {quote(given.datatype)}, which is unknown")
    return Inline(given.name, datatype, tuple(given.shape))


def _typed(
    request: pb.ModelInferRequest, inputs: Sequence[Inline], places: Sequence[Place | None], *, with_raw: bool
) -> Sequence[bytes] | None:
    """The data of inputs that came element by element; None when there are none."""
    given = [each.name for each in request.inputs if has_contents(each.contents)]
    if not given:
        return None
    if with_raw:
        raise InvalidArgument(f"input {quote(given[0])} has contents, and the request has raw_input_contents too")
    typed: list[bytes] = []
    for each, source, place in zip(request.inputs, inputs, places, strict=True):
        if place is not None:
            raise InvalidArgument(
                f"input {quote(each.name)} is in shared memory, while input {quote(given[0])} has contents"
            )
        typed.append(contents_to_bytes(each.name, Datatype(source.datatype), source.shape, each.contents))
    return typed


def _output(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> OutputOptions:
    top = 0
    if "classification" in output.parameters:
        top = _count(f"output {quote(output.name)}", "classification", output.parameters["classification"])
        if not top:
            raise InvalidArgument(f"output {quote(output.name)}: classification is 0, it must be 1 or more")
    place = _place("output", output.name, output.parameters)
    return OutputOptions(top, place) if top or place else PLAIN


def _place(kind: str, name: str, parameters: Mapping[str, pb.InferParameter]) -> Place | None:
    given = [key for key in _MEMORY if key in parameters]
    if not given:
        return None
    what = f"{kind} {quote(name)}"
    region = parameters.get(_MEMORY[0])
    if region is None or not region.string_param:
        raise InvalidArgument(f"{what} has {given[0]}, but shared_memory_region does not name a region")
    offset, nbytes = (_count(what, key, parameters[key]) if key in parameters else 0 for key in _MEMORY[1:])
    return Place(region.string_param, offset, nbytes)


def _count(what: str, key: str, value: pb.InferParameter) -> int:
    kind = value.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidArgument(f"{what}: {key} is {kind or 'nothing'}, it takes int64_param")
    number = value.int64_param if kind == "int64_param" else value.uint64_param
    if number < 0:
        raise InvalidArgument(f"{what}: {key} is {number}, it must not be negative")
    return number
