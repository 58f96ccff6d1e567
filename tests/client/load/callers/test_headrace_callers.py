"""Callers of headrace.v1: what they send, what they report, and how they handle failures."""

from __future__ import annotations

import asyncio
import time

import grpc
import numpy as np
import pytest

from headrace.client.load.callers.caller import Request
from headrace.client.load.callers.connect import describe_model
from headrace.client.load.callers.departure import Departure
from headrace.client.load.record.run import Mode, Protocol
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.v1 import inference_pb2 as v1
from headrace.wire.errors import Code, Unavailable
from tests.client.aio.scripted_server import Context, ScriptedServer
from tests.client.load.single_caller import INPUTS, answers, single_caller

PROTOCOLS: list[Protocol] = ["headrace", "oip"]
MODES: list[Mode] = ["stream", "unary"]
COMBINATIONS = [(protocol, mode) for protocol in PROTOCOLS for mode in MODES]


async def test_a_stream_request_carries_all_options_and_reports_the_server_times(server: ScriptedServer) -> None:
    server.automatic = True
    request = Request("m", "3", outputs=("y",), keep=("z",), timeout=1.5, priority=7)
    async with single_caller(server.target, "headrace", "stream", request) as caller:
        before = time.perf_counter()
        first, second = await answers(caller, 2)
        assert (first.code, second.code) == (0, 0)
        assert before < first.sent < first.ended < time.perf_counter()
        assert first.times == pytest.approx((1e-6, 2e-6, 3e-6))
        # A Release has no answer, but the next request does.
        await caller.call(INPUTS, Departure())
    (call,) = server.tiny.calls.values()
    assert (call.model, call.version, [*call.outputs], [*call.keep]) == ("m", "3", ["y"], ["z"])
    infers = [command for command in server.tiny.commands if command.kind == v1.Command.INFER]
    assert [(infer.timeout_us, infer.priority) for infer in infers] == [(1_500_000, 7)] * 3
    released = [command.tag for command in server.tiny.commands if command.kind == v1.Command.RELEASE]
    assert set(released) >= {infers[0].tag, infers[1].tag}


async def test_a_unary_request_carries_all_options_and_reports_the_server_times(server: ScriptedServer) -> None:
    requests: list[bytes] = []

    async def infer(message: bytes, _: Context) -> bytes:
        requests.append(message)
        tensor = v1.Tensor(name="y", datatype=v1.FP32, shape=[1])
        return v1.InferResponse(outputs=[tensor], tensors=[b"1234"], queued_us=2, running_us=3).SerializeToString()

    server.unary["Infer"] = infer
    request = Request("m", "3", outputs=("y",), timeout=1.5, priority=7)
    async with single_caller(server.target, "headrace", "unary", request) as caller:
        (answer,) = await answers(caller, 1)
        assert answer.code == 0, answer.message
        assert answer.times == pytest.approx((0, 2e-6, 3e-6))
    sent = v1.InferRequest.FromString(requests[0])
    assert (sent.call.model, sent.call.version, [*sent.call.outputs]) == ("m", "3", ["y"])
    assert (sent.timeout_us, sent.priority) == (1_500_000, 7)
    assert [*sent.tensors] == [INPUTS["x"].tobytes()]


async def test_a_malformed_unary_answer_is_an_internal_error(server: ScriptedServer) -> None:
    async def infer(message: bytes, _: Context) -> bytes:
        return b"\xff"

    server.unary["Infer"] = infer
    async with single_caller(server.target, "headrace", "unary") as caller:
        answer = await caller.call(INPUTS, Departure())
        assert answer.code == Code.INTERNAL
        assert "the server broke the protocol" in answer.message
        assert np.isnan(answer.times).all()


async def test_the_next_call_opens_a_new_stream_after_one_has_ended(server: ScriptedServer) -> None:
    async with single_caller(server.target, "headrace", "stream") as caller:
        pending = [asyncio.create_task(caller.call(INPUTS, Departure())) for _ in range(3)]
        peer = await server.accept()
        assert len(await peer.commands(3)) == 3
        await peer.end(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
        for lost in await asyncio.gather(*pending):
            assert (lost.code, lost.message) == (Code.RESOURCE_EXHAUSTED, "enough")
            assert lost.sent < lost.ended
        pending = [asyncio.create_task(caller.call(INPUTS, Departure())) for _ in range(3)]
        peer = await server.accept()
        await peer.done(*(command.tag for command in await peer.commands(3)))
        assert [answer.code for answer in await asyncio.gather(*pending)] == [0] * 3


async def test_cancelling_a_call_cancels_it_on_the_server(server: ScriptedServer) -> None:
    async with single_caller(server.target, "headrace", "stream") as caller:
        forgotten = asyncio.create_task(caller.call(INPUTS, Departure()))
        peer = await server.accept()
        (infer,) = await peer.commands(1)
        forgotten.cancel()
        (cancel,) = await peer.commands(1)
        assert (cancel.kind, cancel.tag) == (v1.Command.CANCEL, infer.tag)


async def test_closing_a_caller_does_not_wait_for_answers(server: ScriptedServer) -> None:
    async with single_caller(server.target, "headrace", "stream") as caller:
        pending = asyncio.create_task(caller.call(INPUTS, Departure()))
        peer = await server.accept()
        await peer.commands(1)
    assert (await pending).code == Code.CANCELLED


async def test_the_window_of_the_caller_applies_if_it_is_smaller_than_the_servers(server: ScriptedServer) -> None:
    async with single_caller(server.target, "headrace", "stream", window=2) as caller:
        pending = [asyncio.create_task(caller.call(INPUTS, Departure())) for _ in range(3)]
        peer = await server.accept()
        first, second = await peer.commands(2)
        await peer.done(second.tag)
        (third,) = await peer.commands(1)
        await peer.done(first.tag, third.tag)
        first_answer, second_answer, third_answer = await asyncio.gather(*pending)
        assert third_answer.sent >= second_answer.ended
        assert first_answer.ended >= second_answer.ended


async def test_connecting_to_an_unreachable_server_is_unavailable() -> None:
    async def enter(protocol: Protocol, mode: Mode) -> None:
        async with single_caller("127.0.0.1:1", protocol, mode):
            pytest.fail("nothing is there")

    attempts = [enter(protocol, mode) for protocol, mode in COMBINATIONS]
    questions = [
        describe_model(ConnectionSettings(target="127.0.0.1:1"), protocol, "echo", "") for protocol in PROTOCOLS
    ]
    # Each attempt takes 5 seconds.
    for error in await asyncio.gather(*attempts, *questions, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert "no server answers at 127.0.0.1:1 " in error.message
