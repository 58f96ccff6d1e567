"""Messages without tensors are bounded before they are parsed."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2

from headrace.oip import open_inference_pb2 as oip
from headrace.server.services.rpcs import MAX_BYTES, MAX_FIELDS, parse
from headrace.wire.errors import InvalidArgument
from tests.own_time import takes_at_most


def entries(count: int) -> bytes:
    """A message of as many entries of a map, each with a key of its own."""
    return b"".join(b"\x0a\x08\x0a\x06%06d" % number for number in range(count))


def refused(data: bytes) -> str:
    with takes_at_most(0.1), pytest.raises(InvalidArgument) as raised:
        parse(oip.LogSettingsRequest, data)
    return raised.value.message


def test_a_message_at_its_limits_is_parsed() -> None:
    assert len(parse(oip.LogSettingsRequest, entries(MAX_FIELDS)).settings) == MAX_FIELDS
    service = "s" * (MAX_BYTES - 4)
    assert parse(health_pb2.HealthCheckRequest, b"\x0a\xfc\xff\x3f" + service.encode()).service == service


def test_millions_of_entries_are_refused() -> None:
    assert refused(entries(MAX_FIELDS + 1)) == f"LogSettingsRequest has more than {MAX_FIELDS} fields"
    assert refused(bytes(16 << 20)) == f"LogSettingsRequest has {16 << 20} bytes; the limit is {MAX_BYTES}"


@pytest.mark.parametrize("data", [b"\x0a\x05", b"\xff" * 20, b"\x0b" * (1 << 16), b"\x0a\xff\xff\x7f" + bytes(1 << 16)])
def test_bytes_that_are_not_a_message_are_refused(data: bytes) -> None:
    assert refused(data) == f"a message of {len(data)} bytes is not a valid LogSettingsRequest"
