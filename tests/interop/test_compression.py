"""Compressed messages, both ways, seen from between the client and the server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests import models
from tests.e2e.serving import F32, Served
from tests.e2e.trickle import Trickle
from tests.interop.inferences import (
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    events,
    frame,
    large_answer,
    large_infer,
    model_infer,
    stream_answer,
)
from tests.interop.remote import Library

pytestmark = pytest.mark.transport

ELEMENTS = 1 << 19


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compressing")
    with Served([str(models.scale(folder)), "--compression=gzip", F32], folder / "log") as served:
        yield served
        assert served.stop() == 0


def test_both_ways_are_compressed(compressing: Served, used: Library) -> None:
    if not used.compresses:
        pytest.skip(f"{used.name} cannot compress")
    with Trickle(compressing.address) as between, used.connect(between.address, "gzip") as client:
        assert large_answer(client.unary(MODEL_INFER, large_infer(ELEMENTS)).reply()) == [3]
        assert 0 < between.up < ELEMENTS
        assert 0 < between.down < ELEMENTS
        native, oip = client.stream(STREAM), client.stream(MODEL_STREAM_INFER)
        native.receive()
        for number in range(1, 20):
            native.send(frame(number, first_tag=number, define=number == 1))
            oip.send(model_infer(number, request_id="compressed"))
            assert events(native.receive())[1] == [2 * number + 1]
            assert stream_answer(oip.receive()) == ("compressed", 2 * number + 1)


def test_a_client_that_cannot_read_compressed_messages_gets_none(compressing: Served) -> None:
    """grpclib says that it accepts none, and would end the call."""
    pure = Library.named("pure")
    with Trickle(compressing.address) as between, pure.connect(between.address) as client:
        assert large_answer(client.unary(MODEL_INFER, large_infer(ELEMENTS)).reply()) == [3]
        assert between.down > 4 * ELEMENTS


def test_requests_may_be_compressed_although_responses_are_not(shared: Served, used: Library) -> None:
    if not used.compresses:
        pytest.skip(f"{used.name} cannot compress")
    with Trickle(shared.address) as between, used.connect(between.address, "gzip") as client:
        assert large_answer(client.unary(MODEL_INFER, large_infer(ELEMENTS)).reply()) == [3]
        assert 0 < between.up < ELEMENTS
        assert between.down > 4 * ELEMENTS


def test_a_compressed_message_that_grows_over_the_limit_ends_its_call(shared: Served, used: Library) -> None:
    """4 MiB is the limit of what it is, not only of what travels."""
    if not used.compresses:
        pytest.skip(f"{used.name} cannot compress")
    with used.connect(shared.address, "gzip") as client:
        other = client.stream(STREAM)
        other.receive()
        ended = client.unary(MODEL_INFER, large_infer(3 * ELEMENTS)).end()
        assert ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        other.send(frame(1, define=True))
        assert events(other.receive())[1] == [3]
