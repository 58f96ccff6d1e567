"""Clients that claim large messages and never finish them: gRPC holds what has come, and no account knows of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests import models
from tests.e2e.serving import Serve
from tests.e2e.stubs import StubStream
from tests.e2e.test_slow_readers import MIB, infers
from tests.e2e.unfinished import CHUNK_BYTES, Unfinished

RPCS = {
    "Stream": "/headrace.v1.Inference/Stream",
    "Infer": "/headrace.v1.Inference/Infer",
    "ModelInfer": "/inference.GRPCInferenceService/ModelInfer",
    "ModelStreamInfer": "/inference.GRPCInferenceService/ModelStreamInfer",
    "ServerMetadata": "/inference.GRPCInferenceService/ServerMetadata",
    "Check": "/grpc.health.v1.Health/Check",
}


@pytest.mark.parametrize("rpc", RPCS)
def test_what_they_hold_is_bounded(rpc: str, serve: Serve, tmp_path: Path) -> None:
    """100 calls would hold 6 GiB. The server ends calls instead, and another client's stream goes on."""
    served = serve(f"am={models.add_multiply(tmp_path)}", "--memory=64MiB")
    with StubStream(served.address) as good:
        infers(good, 10)
        before = peak = served.resident_bytes()
        with Unfinished(served.address, RPCS[rpc], calls=100, claimed=64 * MIB, sent=60 * MIB) as bad:
            while len(bad.ended) < 80:
                infers(good, 10)
                peak = max(peak, served.resident_bytes())
            assert bad.delivered > 400 * MIB
        assert peak - before < 1024 * MIB
        infers(good, 10)
    assert "memory is short: ended" in served.log
    assert "calls from ipv4:127.0.0.1" in served.log
    assert served.stop() == 0


def test_the_server_does_not_wait_for_them_to_stop(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", "--grace=60")
    with ExitStack() as stack:
        for rpc in ("Infer", "ModelInfer", "Stream"):
            calls = Unfinished(served.address, RPCS[rpc], calls=3, claimed=MIB, sent=MIB // 2)
            stack.enter_context(calls).wait_until_sent()
        assert served.stop() == 0


def test_they_take_no_place_of_others(serve: Serve, tmp_path: Path) -> None:
    """A probe that is not answered would have the server restarted."""
    served = serve(f"am={models.add_multiply(tmp_path)}", "--streams=4")
    with ExitStack() as stack:
        for rpc, calls in (("Check", 300), ("Infer", 8)):
            bad = Unfinished(served.address, RPCS[rpc], calls=calls, claimed=MIB, sent=CHUNK_BYTES)
            stack.enter_context(bad).wait_until_sent()
        with grpc.insecure_channel(served.address) as channel:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RPCS["Check"])
            assert check(b"", timeout=30) == b"\x08\x01", "SERVING"
        with StubStream(served.address) as good:
            infers(good, 10)


def test_a_call_without_a_message_is_answered(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}")
    with grpc.insecure_channel(served.address) as channel:
        for path in (RPCS["Infer"], RPCS["ModelInfer"], RPCS["Check"]):
            with pytest.raises(grpc.RpcError) as raised:
                channel.stream_unary(path)(iter([]))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert raised.value.details() == "the call ended without a request message"


def test_a_call_that_is_refused_need_not_send_its_message(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"am={models.add_multiply(tmp_path)}", "--streams=1")
    with StubStream(served.address) as good, grpc.insecure_channel(served.address) as channel:
        infers(good, 1)
        never = threading.Event()

        def wait() -> Iterator[bytes]:
            never.wait(30)
            yield b""

        with pytest.raises(grpc.RpcError) as raised:
            channel.stream_unary(RPCS["Infer"])(wait())  # type: ignore[arg-type]  # without a serializer
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        never.set()
