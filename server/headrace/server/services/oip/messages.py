"""A ModelInferRequest as bytes, taken apart without protobuf touching the tensors.

What repeats from request to request (model, inputs, outputs) is one piece, so that it need not be parsed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.server.core.calls import MAX_PORTS
from headrace.wire.errors import HeadraceError, InvalidArgument

MAX_DESCRIBED = 16 << 20
"""Bytes of a request that are not raw contents: typed contents are among them."""
MAX_FIELDS = 8 * MAX_PORTS
"""Of a request, those included that nobody knows."""

_MODEL, _VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW = (number << 3 | 2 for number in range(1, 8))
_DESCRIBED = {_MODEL, _VERSION, _INPUTS, _OUTPUTS}
_COUNTED = {_PARAMETERS: "parameters", _INPUTS: "inputs", _OUTPUTS: "outputs", _RAW: "raw_input_contents"}
_LENGTH_DELIMITED, _VARINT = 2, 0
_FIXED = {1: 8, 5: 4}


NOWHERE = slice(0, 0)


class Pieces(NamedTuple):
    """`described` and `parameters` are ModelInferRequests of some of the fields; `raw` are views of the message.

    With an `error` there is only the id, if it came before what is wrong. `id_at` and `raw_at` say where these were.
    """

    described: bytes = b""
    id: bytes = b""
    parameters: bytes = b""
    raw: Sequence[memoryview] = ()
    error: HeadraceError | None = None
    id_at: slice = NOWHERE
    raw_at: Sequence[slice] = ()


def take_apart(message: bytes) -> Pieces:
    view = memoryview(message)
    described: list[memoryview] = []
    parameters: list[memoryview] = []
    raw_at: list[slice] = []
    request_id, id_at = b"", NOWHERE
    counts: dict[int, int] = {}
    at = fields = 0
    try:
        while at < len(message):
            first = at
            key, at = _varint(message, at)
            start, at = _value(message, key & 7, at)
            fields += 1
            if key in _DESCRIBED:
                described.append(view[first:at])
            elif key == _RAW:
                raw_at.append(slice(start, at))
            elif key == _ID:
                id_at = slice(start, at)
                request_id = message[id_at]
                request_id.decode()
            elif key == _PARAMETERS:
                parameters.append(view[first:at])
            if key in _COUNTED:
                counts[key] = counts.get(key, 0) + 1
                if counts[key] > MAX_PORTS:
                    raise InvalidArgument(f"a request has over {MAX_PORTS} {_COUNTED[key]}; no more are taken")
            if fields > MAX_FIELDS:
                raise InvalidArgument(f"a request has over {MAX_FIELDS} fields; no more are taken")
        size = sum(map(len, described)) + sum(map(len, parameters))
        if size > MAX_DESCRIBED:
            most = f"at most {MAX_DESCRIBED} are taken"
            raise InvalidArgument(f"{size} bytes of a request are not raw_input_contents, {most}")
    except IndexError:
        return Pieces(error=InvalidArgument(f"a message of {len(message)} bytes is no ModelInferRequest"))
    except UnicodeDecodeError:
        return Pieces(error=InvalidArgument("the id of a request is no text in UTF-8"))
    except InvalidArgument as error:
        return Pieces(id=request_id, error=error)
    raw = [view[at] for at in raw_at]
    return Pieces(b"".join(described), request_id, b"".join(parameters), raw, None, id_at, raw_at)


def _value(message: bytes, wire_type: int, at: int) -> tuple[int, int]:
    """Where the value of a field starts and stops. Raises IndexError where it does not."""
    if wire_type == _LENGTH_DELIMITED:
        size, start = _varint(message, at)
        stop = start + size
    elif wire_type == _VARINT:
        start, stop = at, _varint(message, at)[1]
    else:
        start, stop = at, at + _FIXED.get(wire_type, len(message))
    if stop > len(message):
        raise IndexError
    return start, stop


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where it stops. Raises IndexError where it does not, within 64 bits."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    number = shift = 0
    while byte >= 0x80 and shift < 63:
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        byte = message[at]
    if byte >= 0x80:
        raise IndexError
    return number | byte << shift, at + 1
