"""From a ModelInferRequest to the core's terms."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf.message import DecodeError

from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.calls import Call, Inline
from headrace.server.core.quotas import Quota
from headrace.server.core.state import DefinedCall
from headrace.server.services.oip.layouts import Layouts
from headrace.server.services.oip.messages import Pieces
from headrace.server.services.oip.options import NO_OPTIONS, Options, read_options
from headrace.server.services.oip.shared_memory import Region, Regions
from headrace.server.services.oip.typed_contents import contents_to_bytes, has_contents
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import InvalidArgument, PermissionDenied, ResourceExhausted, quote
from headrace.wire.tensors import Buffer

REMEMBERED = 1024
"""Descriptions that are known by their bytes."""
REMEMBERED_BYTES = 16 << 10
"""What is longer is not remembered."""
_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is in shared memory."""

    region: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to become of an output besides being sent: `top` classes instead of it, and a place."""

    top: int
    place: Place | None
    region: Region | None = None
    """What the name in `place` meant when a request came, held for that request alone: a description has none."""


PLAIN = Asked(0, None)


@dataclass(slots=True, eq=False)
class Description:
    """What repeats from request to request. `defined` is what the core makes of it."""

    defined: DefinedCall
    places: Sequence[Place | None]
    """Of each input."""
    typed: Sequence[bytes] | None
    """The bytes of all inputs, when they came with the description."""
    asked: Sequence[Asked]
    """For each output that was named, when there is more to do than to send it; else nothing."""
    plain: bool = field(init=False)
    """There is nothing to see to but that there is as much raw content as there are inputs."""

    def __post_init__(self) -> None:
        self.plain = self.typed is None and not any(self.places) and not self.asked


@dataclass(slots=True)
class Request:
    """`nbytes` are what its inputs take besides the message.

    `asked` is that of the description, with the regions: `Requests.let_go` takes it when it has been seen to.
    """

    description: Description
    inline: Sequence[Buffer]
    options: Options
    nbytes: int
    asked: Sequence[Asked] = ()


class Requests:
    """Reads requests, and remembers what it has read.

    `regions` None: shared memory is not allowed. `budget` bounds what is read from there.
    """

    def __init__(self, regions: Regions | None, budget: Quota) -> None:
        self._regions = regions
        self._budget = budget
        self._known: OrderedDict[bytes, Description] = OrderedDict()
        self.take_apart = Layouts().take_apart
        """A message into what `read` takes, and the id for who answers it, whether or not it can be read."""

    def read(self, pieces: Pieces) -> Request:
        """Raises what the client is to be told."""
        if pieces.error is not None:
            raise pieces.error
        options = _options(pieces.parameters) if pieces.parameters else NO_OPTIONS
        described = pieces.described
        description = self._known.get(described)
        if description is None:
            description = _describe(described, with_raw=bool(pieces.raw))
            if description.typed is None and len(described) <= REMEMBERED_BYTES:
                self._known[described] = description
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        raw = pieces.raw
        if description.plain and len(raw) == len(description.places):
            return Request(description, raw, options, 0)
        nbytes = sum([place.nbytes for place in description.places if place is not None])
        if nbytes and not self._budget.fits(nbytes):
            raise ResourceExhausted(
                f"inputs of {nbytes} bytes in shared memory do not fit into what the server takes at a time"
            )
        return Request(description, self._inline(description, raw), options, nbytes, self._bind(description.asked))

    def let_go(self, asked: Sequence[Asked]) -> None:
        """A request that asked for these has been answered, or will not be: it writes to no region any more."""
        for each in asked:
            if each.region is not None:
                self._allowed().let_go(each.region)

    def _bind(self, asked: Sequence[Asked]) -> Sequence[Asked]:
        """The same with the regions, held. Before the run, which would be for nothing where one is not there."""
        bound: list[Asked] = []
        try:
            for each in asked:
                place = each.place
                region = None if place is None else self._allowed().hold(place.region, place.offset, place.nbytes)
                bound.append(each if region is None else replace(each, region=region))
        except BaseException:
            self.let_go(bound)
            raise
        return bound

    def _inline(self, description: Description, raw: Sequence[memoryview]) -> Sequence[Buffer]:
        if description.typed is not None:
            return description.typed
        inputs = len(description.places)
        if not any(description.places):
            if len(raw) != inputs:
                # Without any, each input lacks its data, which the core says better.
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
            raise PermissionDenied("this server takes no shared memory; start it with --shared-memory")
        return self._regions


def _wrong_count(found: int, wanted: int) -> Sequence[Buffer]:
    raise InvalidArgument(f"{found} raw_input_contents for {wanted} inputs that are not in shared memory")


def _options(parameters: bytes) -> Options:
    return read_options(_parse(parameters).parameters)


def _parse(message: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        raise InvalidArgument("a message is no ModelInferRequest") from None


def _describe(described: bytes, *, with_raw: bool) -> Description:
    request = _parse(described)
    inputs = [_input(each) for each in request.inputs]
    asked = [_asked(each) for each in request.outputs]
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
        asked if any(each != PLAIN for each in asked) else (),
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
                f"input {quote(each.name)} is in shared memory, where input {quote(given[0])} has contents"
            )
        typed.append(contents_to_bytes(each.name, Datatype(source.datatype), source.shape, each.contents))
    return typed


def _asked(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> Asked:
    top = 0
    if "classification" in output.parameters:
        top = _count(f"output {quote(output.name)}", "classification", output.parameters["classification"])
        if not top:
            raise InvalidArgument(f"output {quote(output.name)}: classification is 0, it must be 1 or more")
    place = _place("output", output.name, output.parameters)
    return Asked(top, place) if top or place else PLAIN


def _place(kind: str, name: str, parameters: Mapping[str, pb.InferParameter]) -> Place | None:
    given = [key for key in _MEMORY if key in parameters]
    if not given:
        return None
    what = f"{kind} {quote(name)}"
    region = parameters.get(_MEMORY[0])
    if region is None or not region.string_param:
        raise InvalidArgument(f"{what} has {given[0]}, and shared_memory_region names no region")
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
