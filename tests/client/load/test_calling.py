"""Requests in headrace.v1: what is sent, what is told of it, and what becomes of it when things go wrong."""

from __future__ import annotations

import asyncio
import time

import grpc
import numpy as np
import pytest

from headrace.client.load.calling import Request
from headrace.client.load.calling.opening import describe
from headrace.client.load.run import Mode, Protocol
from headrace.v1 import inference_pb2 as v1
from headrace.wire.errors import Code, Unavailable
from tests.client.aio.scripted_server import Context, ScriptedServer
from tests.client.load.one_caller import INPUTS, answers, one

PROTOCOLS: list[Protocol] = ["headrace", "oip"]
MODES: list[Mode] = ["stream", "unary"]
WAYS = [(protocol, mode) for protocol in PROTOCOLS for mode in MODES]


async def test_a_request_of_a_stream(server: ScriptedServer) -> None:
    server.automatic = True
    request = Request("m", "3", outputs=("y",), keep=("z",), timeout=1.5, priority=7)
    async with one(server.target, "headrace", "stream", request) as caller:
        before = time.perf_counter()
        first, second = await answers(caller, 2)
        assert (first.code, second.code) == (0, 0)
        assert before < first.sent < first.ended < time.perf_counter()
        assert first.times == pytest.approx((1e-6, 2e-6, 3e-6))
        # A Release is not answered; what follows it is.
        await caller.call(INPUTS)
    (call,) = server.tiny.calls.values()
    assert (call.model, call.version, [*call.outputs], [*call.keep]) == ("m", "3", ["y"], ["z"])
    infers = [command for command in server.tiny.commands if command.kind == v1.Command.INFER]
    assert [(infer.timeout_us, infer.priority) for infer in infers] == [(1_500_000, 7)] * 3
    released = [command.tag for command in server.tiny.commands if command.kind == v1.Command.RELEASE]
    assert set(released) >= {infers[0].tag, infers[1].tag}


async def test_a_unary_request(server: ScriptedServer) -> None:
    requests: list[bytes] = []

    async def infer(message: bytes, _: Context) -> bytes:
        requests.append(message)
        tensor = v1.Tensor(name="y", datatype=v1.FP32, shape=[1])
        return v1.InferResponse(outputs=[tensor], tensors=[b"1234"], queued_us=2, running_us=3).SerializeToString()

    server.unary["Infer"] = infer
    request = Request("m", "3", outputs=("y",), timeout=1.5, priority=7)
    async with one(server.target, "headrace", "unary", request) as caller:
        (answer,) = await answers(caller, 1)
        assert answer.code == 0, answer.message
        assert answer.times == pytest.approx((0, 2e-6, 3e-6))
    sent = v1.InferRequest.FromString(requests[0])
    assert (sent.call.model, sent.call.version, [*sent.call.outputs]) == ("m", "3", ["y"])
    assert (sent.timeout_us, sent.priority) == (1_500_000, 7)
    assert [*sent.tensors] == [INPUTS["x"].tobytes()]


async def test_an_answer_that_is_none(server: ScriptedServer) -> None:
    async def infer(message: bytes, _: Context) -> bytes:
        return b"\xff"

    server.unary["Infer"] = infer
    async with one(server.target, "headrace", "unary") as caller:
        answer = await caller.call(INPUTS)
        assert answer.code == Code.INTERNAL
        assert "the server broke the protocol" in answer.message
        assert np.isnan(answer.times).all()


async def test_a_stream_that_ends_is_followed_by_another(server: ScriptedServer) -> None:
    async with one(server.target, "headrace", "stream") as caller:
        pending = [asyncio.create_task(caller.call(INPUTS)) for _ in range(3)]
        peer = await server.accept()
        assert len(await peer.commands(3)) == 3
        await peer.end(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
        for lost in await asyncio.gather(*pending):
            assert (lost.code, lost.message) == (Code.RESOURCE_EXHAUSTED, "enough")
            assert lost.sent < lost.ended
        pending = [asyncio.create_task(caller.call(INPUTS)) for _ in range(3)]
        peer = await server.accept()
        await peer.done(*(command.tag for command in await peer.commands(3)))
        assert [answer.code for answer in await asyncio.gather(*pending)] == [0] * 3


async def test_what_is_given_up_is_cancelled_on_the_server(server: ScriptedServer) -> None:
    async with one(server.target, "headrace", "stream") as caller:
        forgotten = asyncio.create_task(caller.call(INPUTS))
        peer = await server.accept()
        (infer,) = await peer.commands(1)
        forgotten.cancel()
        (cancel,) = await peer.commands(1)
        assert (cancel.kind, cancel.tag) == (v1.Command.CANCEL, infer.tag)


async def test_leaving_waits_for_nothing(server: ScriptedServer) -> None:
    async with one(server.target, "headrace", "stream") as caller:
        pending = asyncio.create_task(caller.call(INPUTS))
        peer = await server.accept()
        await peer.commands(1)
    assert (await pending).code == Code.CANCELLED


async def test_the_window_is_kept_below_that_of_the_server(server: ScriptedServer) -> None:
    async with one(server.target, "headrace", "stream", window=2) as caller:
        pending = [asyncio.create_task(caller.call(INPUTS)) for _ in range(3)]
        peer = await server.accept()
        first, second = await peer.commands(2)
        await peer.done(second.tag)
        (third,) = await peer.commands(1)
        await peer.done(first.tag, third.tag)
        one_, two, three = await asyncio.gather(*pending)
        assert three.sent >= two.ended
        assert one_.ended >= two.ended


async def test_a_server_that_is_not_there() -> None:
    async def enter(protocol: Protocol, mode: Mode) -> None:
        async with one("127.0.0.1:1", protocol, mode):
            pytest.fail("nothing is there")

    attempts = [enter(protocol, mode) for protocol, mode in WAYS]
    questions = [describe("127.0.0.1:1", protocol, "echo", "") for protocol in PROTOCOLS]
    # It tries for 5 seconds each time.
    for error in await asyncio.gather(*attempts, *questions, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert "no server answers at 127.0.0.1:1 " in error.message
