"""Splits the bytes of a ModelInferRequest into the description, which repeats from request to request, and the rest.

The description (model, inputs, outputs) stays a single bytes object, so that a known one need not be parsed again.
Small messages are parsed by protobuf. In large ones only the fields are walked, so that no tensor is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from google.protobuf.message import DecodeError

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip.contents_counts import MAX_FIELDS, check_description
from headrace.wire.errors import HeadraceError, InvalidArgument
from headrace.wire.fields import fields
from headrace.wire.frames import MAX_OVERHEAD
from headrace.wire.limits import MAX_PORTS
from headrace.wire.tensors import Buffer

MAX_PARSED_BYTES = 32 << 10
"""Larger messages are walked: from this size on, that is faster than protobuf, which copies tensors twice."""
MAX_NON_TENSOR_BYTES = 16 << 20
"""The limit for a request without its raw contents. Typed contents count."""
MAX_ID_BYTES = 4 << 10
"""The limit for the id of a request, which is remembered until the request is answered."""

_MODEL, _VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW = (number << 3 | 2 for number in range(1, 8))
_DESCRIPTION_KEYS = {_MODEL, _VERSION, _INPUTS, _OUTPUTS}
_COUNTED = {_PARAMETERS: "parameters", _INPUTS: "inputs", _OUTPUTS: "outputs", _RAW: "raw_input_contents"}

Parameters = Mapping[str, pb.InferParameter]
_NO_PARAMETERS: Parameters = {}


class RequestParts(NamedTuple):
    """`description` is a ModelInferRequest that has only the fields that repeat; `raw` are the raw contents.

    If there is an `error`, only the id is set, provided that it could be read.
    """

    description: bytes = b""
    id: bytes = b""
    parameters: Parameters = _NO_PARAMETERS
    raw: Sequence[Buffer] = ()
    error: HeadraceError | None = None


def split_request(message: bytes) -> RequestParts:
    """Split a message. If it is not valid, the result has an `error`."""
    if len(message) <= MAX_PARSED_BYTES:
        try:
            return _parse(pb.ModelInferRequest.FromString(message), len(message))
        except DecodeError:
            pass  # the walk finds the error
    return _walk(message)


def named_model(parts: RequestParts) -> tuple[str, str]:
    """Name and version of the model, of a request that may not be valid; empty where there are none."""
    data = parts.description
    named: dict[int, bytes] = {}
    with suppress(IndexError):  # protobuf has accepted a group, which the walk does not
        for key, start, stop in fields(data, 0, len(data)):
            if key in (_MODEL, _VERSION):
                named[key] = data[start:stop]
    name, version = (named.get(key, b"").decode(errors="replace") for key in (_MODEL, _VERSION))
    return name, version


def _parse(request: pb.ModelInferRequest, size: int) -> RequestParts:
    request_id = request.id.encode()
    if len(request_id) > MAX_ID_BYTES:
        return RequestParts(error=_long_id(len(request_id)))
    if size > 2 * MAX_PORTS:  # each element of a repeated field takes at least two bytes
        for field in _COUNTED.values():
            if len(getattr(request, field)) > MAX_PORTS:
                return RequestParts(id=request_id, error=_too_many(field))
    raw = [*request.raw_input_contents]
    request.ClearField("raw_input_contents")
    request.ClearField("id")
    parameters: Parameters = _NO_PARAMETERS
    if request.parameters:
        parameters = dict(request.parameters)
        request.ClearField("parameters")
    return RequestParts(request.SerializeToString(), request_id, parameters, raw)


def _walk(message: bytes) -> RequestParts:
    view = memoryview(message)
    description: list[memoryview] = []
    parameters: list[memoryview] = []
    raw: list[memoryview] = []
    request_id = b""
    counts: dict[int, int] = {}
    first = number = 0
    try:
        for number, (key, start, stop) in enumerate(fields(message, 0, len(message)), 1):
            if key in _DESCRIPTION_KEYS:
                description.append(view[first:stop])
            elif key == _RAW:
                raw.append(view[start:stop])
            elif key == _ID:
                if stop - start > MAX_ID_BYTES:
                    return RequestParts(error=_long_id(stop - start))
                request_id = message[start:stop]
                request_id.decode()
            elif key == _PARAMETERS:
                parameters.append(view[first:stop])
            if key in _COUNTED:
                counts[key] = counts.get(key, 0) + 1
                if counts[key] > MAX_PORTS:
                    return RequestParts(id=request_id, error=_too_many(_COUNTED[key]))
            if number > MAX_FIELDS:
                return RequestParts(id=request_id, error=_too_many("fields", MAX_FIELDS))
            first = stop
        described, options = _joined(description, MAX_NON_TENSOR_BYTES), _joined(parameters, MAX_OVERHEAD)
        if len(described) > MAX_PARSED_BYTES:
            check_description(described)
        parsed = pb.ModelInferRequest.FromString(options).parameters if options else _NO_PARAMETERS
    except InvalidArgument as error:
        return RequestParts(id=request_id, error=error)
    except UnicodeDecodeError:
        return RequestParts(error=InvalidArgument("the id of a request is not valid UTF-8"))
    except (IndexError, DecodeError):
        not_valid = f"a message of {len(message)} bytes is not a valid ModelInferRequest"
        return RequestParts(id=request_id, error=InvalidArgument(not_valid))
    return RequestParts(described, request_id, parsed, raw)


def _joined(parts: Sequence[memoryview], limit: int) -> bytes:
    """Raises InvalidArgument for more bytes than the limit."""
    size = sum(map(len, parts))
    if size > limit:
        raise InvalidArgument(f"a request has {size} bytes besides raw_input_contents; the limit is {limit}")
    return b"".join(parts)


def _too_many(what: str, limit: int = MAX_PORTS) -> InvalidArgument:
    return InvalidArgument(f"a request has more than {limit} {what}")


def _long_id(size: int) -> InvalidArgument:
    return InvalidArgument(f"the id of a request has {size} bytes; the limit is {MAX_ID_BYTES}")
