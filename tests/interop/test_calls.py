"""Calls of clients that were not written here, as users make them."""

from __future__ import annotations

import random

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests.interop.inferences import (
    CHECK,
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    REFLECTION,
    STREAM,
    WATCH,
    Bystander,
    Event,
    events,
    frame,
    infer,
    infer_answer,
    large_answer,
    large_infer,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.interop.remote import Library, Metadata, Remote

pytestmark = pytest.mark.transport

OK = (grpc.StatusCode.OK, "")
MIB = 1 << 20


def test_unary_calls_are_answered(client: Remote) -> None:
    for number in (0, 1, -2.5, 1e6):
        assert infer_answer(client.unary(INFER, infer(number)).reply()) == 2 * number + 1
        assert model_infer_answer(client.unary(MODEL_INFER, model_infer(number)).reply()) == 2 * number + 1


def test_a_message_may_be_empty(client: Remote) -> None:
    """No byte after the prefix, in both directions."""
    live = client.unary("/inference.GRPCInferenceService/ServerLive", b"").reply()
    assert oip.ServerLiveResponse.FromString(live).live
    assert client.unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus", b"").reply() == b""


def test_a_native_stream_ends_well_after_a_half_close(client: Remote) -> None:
    call = client.stream(STREAM)
    (hello,), _ = events(call.receive())
    assert hello.kind == Event.HELLO
    call.send(frame(1, 2, 3, define=True))
    call.send(frame(4, first_tag=4))
    call.half_close()
    answered: dict[int, float] = {}
    while len(answered) < 4:
        done, numbers = events(call.receive())
        assert {event.kind for event in done} == {Event.DONE}
        answered |= zip((event.tag for event in done), numbers, strict=True)
    assert answered == {1: 3, 2: 5, 3: 7, 4: 9}
    assert call.ended() == OK


def test_a_native_stream_may_wait_for_each_answer(client: Remote) -> None:
    call = client.stream(STREAM)
    call.receive()
    for tag in range(1, 30):
        call.send(frame(tag, first_tag=tag, define=tag == 1))
        (done,), numbers = events(call.receive())
        assert (done.kind, done.tag, numbers) == (Event.DONE, tag, [2 * tag + 1])
    call.half_close()
    assert call.ended() == OK


def test_a_stream_without_a_message_ends_well(client: Remote) -> None:
    for path, greeted in ((STREAM, True), (MODEL_STREAM_INFER, False), (REFLECTION, False)):
        call = client.stream(path)
        call.half_close()
        if greeted:
            call.receive()
        assert call.ended() == OK


def test_a_stream_of_the_open_inference_protocol(client: Remote) -> None:
    """Many requests at once, one answer for each, and OK at the end."""
    call = client.stream(MODEL_STREAM_INFER)
    expected = {f"request {number}": 2.0 * number + 1 for number in range(300)}
    call.send(*[model_infer(number, request_id=f"request {number}") for number in range(300)])
    call.half_close()
    assert dict(stream_answer(call.receive()) for _ in expected) == expected
    assert call.ended() == OK


@pytest.mark.parametrize("elements", [1 << 10, 1 << 14, 1 << 18, (1 << 20) - 64])
def test_large_messages_go_both_ways(client: Remote, elements: int) -> None:
    """Up to 4 MiB: through every window of flow control."""
    reply = client.unary(MODEL_INFER, large_infer(elements, elements)).reply()
    assert large_answer(reply) == [2 * elements + 1]


def test_large_messages_go_both_ways_in_a_stream(client: Remote) -> None:
    call = client.stream(MODEL_STREAM_INFER)
    for number in range(4):
        call.send(large_infer(MIB // 2, number))
    call.half_close()
    answers = [oip.ModelStreamInferResponse.FromString(call.receive()) for _ in range(4)]
    found = [large_answer(each.infer_response.SerializeToString()) for each in answers]
    assert found == [[1], [3], [5], [7]]
    assert call.ended() == OK


def test_many_calls_at_once_on_one_connection(client: Remote) -> None:
    """500 unary calls and 20 streams, interleaved; each gets its own answers."""
    order = random.Random(18)
    streams = [client.stream(MODEL_STREAM_INFER) for _ in range(20)]
    unary = [client.unary(MODEL_INFER, model_infer(number)) for number in range(250)]
    for number in range(20):
        for each, call in enumerate(order.sample(streams, len(streams))):
            call.send(model_infer(100 * streams.index(call) + number, request_id=str(each)))
    unary += [client.unary(INFER, infer(number)) for number in range(250)]
    for call in streams:
        call.half_close()
    for number, call in enumerate(unary[:250]):
        assert model_infer_answer(call.reply()) == 2 * number + 1
    for number, call in enumerate(unary[250:]):
        assert infer_answer(call.reply()) == 2 * number + 1
    for index, call in enumerate(streams):
        answers = [stream_answer(call.receive())[1] for _ in range(20)]
        assert answers == [2 * (100 * index + number) + 1 for number in range(20)]
        assert call.ended() == OK


def test_metadata_of_every_kind_reaches_the_service(client: Remote) -> None:
    """`triton_grpc_error` decides how an error of the stream is told, among other keys or alone."""
    binary = {f"some-{size}-bin": bytes(range(256))[:size] for size in (0, 1, 2, 3, 255)}
    others: Metadata = {"x-request-id": "a b;c, d", "x-long": "l" * 3000, **binary}
    asking: Metadata = {**others, "triton_grpc_error": "true"}
    for metadata, told in ((others, False), (asking, True)):
        call = client.stream(MODEL_STREAM_INFER, metadata=metadata)
        call.send(model_infer(1, "no such model"))
        call.half_close()
        if told:
            assert call.ended().code is grpc.StatusCode.NOT_FOUND
        else:
            assert "no such model" in oip.ModelStreamInferResponse.FromString(call.receive()).error_message
            assert call.ended() == OK
    assert model_infer_answer(client.unary(MODEL_INFER, model_infer(4), metadata=others).reply()) == 9


def test_health_is_told_and_watched(client: Remote) -> None:
    assert health_pb2.HealthCheckResponse.FromString(client.unary(CHECK, b"").reply()).status == 1
    watch = client.stream(WATCH)
    watch.send(health_pb2.HealthCheckRequest(service="scale").SerializeToString())
    watch.half_close()
    assert health_pb2.HealthCheckResponse.FromString(watch.receive()).status == 1
    watch.cancel()
    assert watch.ended().code is grpc.StatusCode.CANCELLED


def test_reflection_answers_each_question(client: Remote) -> None:
    call = client.stream(REFLECTION)
    call.send(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    listed = reflection_pb2.ServerReflectionResponse.FromString(call.receive()).list_services_response.service
    names = {service.name for service in listed}
    assert {"headrace.v1.Inference", "inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    for name in sorted(names):
        call.send(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name).SerializeToString())
        described = reflection_pb2.ServerReflectionResponse.FromString(call.receive())
        assert described.file_descriptor_response.file_descriptor_proto
    call.half_close()
    assert call.ended() == OK


def test_what_is_cancelled_while_others_go_on_harms_none(client: Remote, used: Library, bystander: Bystander) -> None:
    """Of 100 calls of one connection every second is cancelled at once."""
    calls = [client.unary(MODEL_INFER, model_infer(number)) for number in range(100)]
    for call in calls[::2]:
        call.cancel()
    for number, call in enumerate(calls):
        if number % 2:
            assert model_infer_answer(call.reply()) == 2 * number + 1
        else:
            assert call.end().code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
    bystander.until_idle()
    streams = [client.stream(STREAM) for _ in range(20)]
    for call in streams[::2]:
        if not used.resets_at_once:
            call.receive()
        call.cancel()
    for call in streams[1::2]:
        call.receive()
        call.send(frame(5, define=True))
        assert events(call.receive())[1] == [11]
        call.half_close()
        assert call.ended() == OK
    assert pb.ServerStatusResponse.FromString(client.unary("/headrace.v1.Inference/ServerStatus", b"").reply())
