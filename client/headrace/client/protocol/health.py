"""`grpc.health.v1` as bytes: two messages of one field each, whose generated code only the server installs. Pure."""

from __future__ import annotations

from headrace.wire.varints import varint

CHECK = "/grpc.health.v1.Health/Check"

_SERVICE = b"\x0a"
"""The key of `HealthCheckRequest.service`, a string."""
_SERVING = b"\x08\x01"
"""`HealthCheckResponse` with `status` SERVING."""


def check_request(service: str) -> bytes:
    """The question for a service; "" stands for the whole server, "m" for a model and "m/3" for a version of it."""
    name = service.encode()
    return _SERVICE + varint(len(name)) + name


def is_serving(response: bytes) -> bool:
    return response == _SERVING
