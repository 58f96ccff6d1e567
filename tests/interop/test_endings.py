"""How calls of clients that were not written here end: errors, deadlines, cancellations, limits."""

from __future__ import annotations

import grpc
import pytest

from headrace.wire.errors import quote
from tests.e2e.serving import Served
from tests.interop.inferences import (
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    Bystander,
    events,
    frame,
    infer,
    infer_answer,
    large_infer,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.interop.remote import Call, Library, Remote

pytestmark = pytest.mark.transport

OK = (grpc.StatusCode.OK, "")
Code = grpc.StatusCode


@pytest.mark.parametrize(
    "name", ["missing", "naïve", "模型", "🚂", "100 %", "a%20b", "line\nbreak", pytest.param("x" * 3000, id="long")]
)
def test_an_error_has_its_code_and_its_message(client: Remote, name: str) -> None:
    """Of any characters: what HTTP/2 cannot carry is percent-encoded."""
    for call in (client.unary(INFER, infer(1, name)), client.unary(MODEL_INFER, model_infer(1, name))):
        ended = call.ended()
        assert ended.code is Code.NOT_FOUND
        assert ended.details == f"there is no model {quote(name)}; there are 'scale', 'slow', 'wide'"


@pytest.mark.parametrize("path", ["/headrace.v1.Inference/Nothing", "/no.such.Service/Infer", "/", "/a/b/c/d"])
@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_what_there_is_not_is_unimplemented(client: Remote, path: str, kind: str) -> None:
    if kind == "unary":
        call = client.unary(path, b"")
    else:
        call = client.stream(path)
        call.half_close()
    assert call.ended().code is Code.UNIMPLEMENTED


def slow_calls(client: Remote, timeout: float | None = None) -> list[Call]:
    """An inference that takes a tenth of a second, in each way to ask for one."""
    native = client.stream(STREAM, timeout=timeout)
    native.send(frame(1, define=True, model="slow"))
    oip = client.stream(MODEL_STREAM_INFER, timeout=timeout)
    oip.send(model_infer(1, "slow"))
    return [
        client.unary(INFER, infer(1, "slow"), timeout=timeout),
        client.unary(MODEL_INFER, model_infer(1, "slow"), timeout=timeout),
        native,
        oip,
    ]


WAYS = {"Infer": INFER, "ModelInfer": MODEL_INFER, "Stream": STREAM, "ModelStreamInfer": MODEL_STREAM_INFER}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_cancelled_gives_back_its_slot(client: Remote, bystander: Bystander, way: str) -> None:
    if way in ("Infer", "ModelInfer"):
        call = client.unary(WAYS[way], infer(1, "slow") if way == "Infer" else model_infer(1, "slow"))
    else:
        call = client.stream(WAYS[way])
        call.send(frame(1, define=True, model="slow") if way == "Stream" else model_infer(1, "slow"))
    bystander.until_running("slow")
    call.cancel()
    assert call.end().code is Code.CANCELLED
    bystander.until_idle()


def test_a_deadline_that_passes_gives_back_its_slot(client: Remote, bystander: Bystander) -> None:
    """More is asked for than runs within it. Other calls of the connection go on."""
    calls = [call for _ in range(10) for call in slow_calls(client, timeout=0.2)]
    assert model_infer_answer(client.unary(MODEL_INFER, model_infer(1)).reply()) == 3
    codes = [call.end().code for call in calls]
    assert codes.count(Code.DEADLINE_EXCEEDED) > 20
    bystander.until_idle()


def test_a_deadline_of_a_stream_that_idles_passes(client: Remote, bystander: Bystander) -> None:
    call = client.stream(STREAM, timeout=0.2)
    call.receive()
    assert call.ended().code is Code.DEADLINE_EXCEEDED
    bystander.until_idle()


def test_a_deadline_far_away_changes_nothing(client: Remote) -> None:
    for seconds in (30, 3600, 10_000_000):
        assert infer_answer(client.unary(INFER, infer(1), timeout=seconds).reply()) == 3
        call = client.stream(MODEL_STREAM_INFER, timeout=seconds)
        call.send(model_infer(2, request_id="far"))
        assert stream_answer(call.receive()) == ("far", 5)
        call.half_close()
        assert call.ended() == OK


def test_a_message_over_the_limit_ends_only_its_call(client: Remote) -> None:
    """4 MiB is the limit. The other calls of the connection go on."""
    other = client.stream(STREAM)
    other.receive()
    other.send(frame(1, define=True))
    assert events(other.receive())[1] == [3]
    large = large_infer((4 << 20) // 4)
    for path, one in ((INFER, True), (MODEL_INFER, True), (STREAM, False), (MODEL_STREAM_INFER, False)):
        if one:
            call = client.unary(path, large)
        else:
            call = client.stream(path)
            call.send(large)
        assert call.end().code is Code.RESOURCE_EXHAUSTED
        other.send(frame(2, first_tag=2))
        assert events(other.receive())[1] == [5]
    other.half_close()
    assert other.ended() == OK


def test_a_client_that_dies_gives_back_all_it_had(used: Library, shared: Served, bystander: Bystander) -> None:
    with used.connect(shared.address) as dying:
        for _ in range(5):
            slow_calls(dying)
        bystander.until_running("slow")
        dying.kill()
        bystander.until_idle()
