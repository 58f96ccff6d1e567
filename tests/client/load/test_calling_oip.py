"""Requests in the Open Inference Protocol: what is sent, what is told of it, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import grpc
import numpy as np
import pytest

from headrace.client.load.calling import Request
from headrace.client.load.calling.opening import describe, open_callers, open_totals
from headrace.client.load.calling.totals import Totals
from headrace.client.load.run import Mode, Server
from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import Code, NotFound, Unimplemented
from tests.client.aio.scripted_server import scripted_server
from tests.client.load.oip_server import OipServer, oip_server
from tests.client.load.one_caller import ECHO, INPUTS, MAX_MESSAGE_BYTES, answers, one

MODES: list[Mode] = ["stream", "unary"]
modes = pytest.mark.parametrize("mode", MODES)


def instant(_: int) -> float:
    return 0.0


def never(_: int) -> float:
    return 3600.0


class TestCalls:
    @modes
    async def test_a_request(self, mode: Mode) -> None:
        request = Request("echo", "3", outputs=("y",), timeout=1.5, priority=7)
        async with oip_server(OipServer(instant)) as server, one(server.target, "oip", mode, request) as caller:
            before = time.perf_counter()
            answer = await caller.call(INPUTS)
            assert answer.code == 0, answer.message
            assert before <= answer.sent < answer.ended <= time.perf_counter()
            assert np.isnan(answer.times).all()
        (sent,) = server.requests
        assert (sent.model_name, sent.model_version) == ("echo", "3")
        assert [(x.name, x.datatype, [*x.shape]) for x in sent.inputs] == [("x", "FP32", [2, 16])]
        assert [*sent.raw_input_contents] == [INPUTS["x"].tobytes()]
        assert [output.name for output in sent.outputs] == ["y"]
        assert sent.parameters["timeout"].int64_param == 1_500_000
        # Theirs counts down to 1.
        assert sent.parameters["priority"].uint64_param == 3

    @modes
    async def test_nothing_is_said_of_what_is_not_asked(self, mode: Mode) -> None:
        async with oip_server(OipServer(instant)) as server, one(server.target, "oip", mode) as caller:
            await answers(caller, 2)
        for sent in server.requests:
            assert not sent.parameters
            assert not sent.outputs
            assert not sent.model_version

    async def test_answers_of_a_stream_come_in_any_order(self) -> None:
        async with oip_server(OipServer(lambda n: 0.3 - 0.1 * n)) as server, one(server.target, "oip", "stream") as it:
            first, second, third = await answers(it, 3)
            assert [first.code, second.code, third.code] == [0, 0, 0]
            assert first.sent < second.sent < third.sent
            assert third.ended < second.ended < first.ended
        assert len({request.id for request in server.requests}) == 3

    async def test_answers_without_ids_are_in_turn(self) -> None:
        server = OipServer(lambda n: 0.2 - 0.1 * n, anonymous=True)
        async with oip_server(server), one(server.target, "oip", "stream") as caller:
            first, second = await answers(caller, 2)
            assert (first.code, second.code) == (0, 0)
            assert first.ended <= second.ended

    @pytest.mark.parametrize(("mode", "code"), [("stream", grpc.StatusCode.UNKNOWN), ("unary", Code.INVALID_ARGUMENT)])
    async def test_an_error_is_an_answer(self, mode: Mode, code: Code | grpc.StatusCode) -> None:
        number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code)
        failing = Request("failing", "")
        async with oip_server(OipServer(instant)) as server, one(server.target, "oip", mode, failing) as caller:
            for answer in await answers(caller, 3):
                assert (answer.code, answer.message) == (number, "model failing has failed")
                assert answer.sent <= answer.ended

    @modes
    async def test_a_timeout_is_kept_by_the_client_too(self, mode: Mode) -> None:
        server = OipServer(lambda n: 0 if n else 3600)
        request = Request("echo", "", timeout=0.25)
        async with oip_server(server), one(server.target, "oip", mode, request, window=1) as caller:
            late = await caller.call(INPUTS)
            assert late.code == Code.DEADLINE_EXCEEDED
            assert late.ended - late.sent == pytest.approx(0.25, abs=0.1)
            assert (await caller.call(INPUTS)).code == 0

    @modes
    async def test_the_window_is_kept_and_waiting_for_it_is_before_sending(self, mode: Mode) -> None:
        server = OipServer(lambda _: 0.1)
        async with oip_server(server), one(server.target, "oip", mode, window=2) as caller:
            first, second, third = (await answers(caller, 5))[:3]
            assert third.sent >= min(first.ended, second.ended)
        assert server.most_at_once == 2

    @modes
    async def test_each_caller_has_a_connection_of_its_own(self, mode: Mode) -> None:
        async with (
            oip_server(OipServer(instant)) as server,
            open_callers(server.target, "oip", mode, 3, 8, ECHO, MAX_MESSAGE_BYTES) as callers,
        ):
            assert [(await caller.call(INPUTS)).code for caller in callers] == [0, 0, 0]
        assert len(server.peers) == 3

    @modes
    async def test_a_request_that_is_given_up_leaves_the_others_alone(self, mode: Mode) -> None:
        server = OipServer(lambda n: 0.2 if n else 3600)
        async with oip_server(server), one(server.target, "oip", mode, window=2) as caller:
            forgotten = asyncio.create_task(caller.call(INPUTS))
            other = asyncio.create_task(caller.call(INPUTS))
            await server.arrived(2)
            forgotten.cancel()
            assert (await other).code == 0
            assert [answer.code for answer in await answers(caller, 4)] == [0] * 4

    @modes
    async def test_a_server_that_goes_and_comes_back(self, mode: Mode) -> None:
        server = OipServer(never)
        async with contextlib.AsyncExitStack() as stack:
            async with oip_server(server):
                address = server.target
                caller = await stack.enter_async_context(one(address, "oip", mode))
                pending = asyncio.create_task(caller.call(INPUTS))
                await server.arrived(1)
            lost = await pending
            assert lost.code in (Code.UNAVAILABLE, Code.CANCELLED)
            assert lost.message
            gone = await caller.call(INPUTS)
            assert gone.code == Code.UNAVAILABLE
            assert gone.sent <= gone.ended
            async with oip_server(OipServer(instant), address):
                while (await caller.call(INPUTS)).code:
                    pass

    @modes
    async def test_leaving_waits_for_nothing(self, mode: Mode) -> None:
        async with oip_server(OipServer(never)) as server:
            async with one(server.target, "oip", mode) as caller:
                pending = asyncio.create_task(caller.call(INPUTS))
                await server.arrived(1)
            assert (await pending).code == Code.CANCELLED

    async def test_what_is_not_in_the_protocol(self) -> None:
        for request, said in (
            (Request("echo", "", keep=("y",)), "kept only by --protocol headrace --mode stream"),
            (Request("echo", "", outputs=()), "no way to ask for no outputs"),
        ):
            with pytest.raises(UsageError, match=said):
                async with one("127.0.0.1:1", "oip", "stream", request):
                    pass
        with pytest.raises(UsageError, match="kept only by --protocol headrace --mode stream"):
            async with one("127.0.0.1:1", "headrace", "unary", Request("echo", "", keep=("y",))):
                pass


class TestDescriptions:
    async def test_a_model(self) -> None:
        async with oip_server(OipServer(instant)) as server:
            model, name = await describe(server.target, "oip", "echo", "")
            assert name == "scripted 7"
            x, y = (Port(name, "FP32", (None, 16), (name,)) for name in "xy")
            assert model == Model("echo", "10", (x,), (y,), has_variables=False, slots=0)
            assert (await describe(server.target, "oip", "echo", "9"))[0].version == "9"

    async def test_a_model_that_is_not_there(self) -> None:
        async with oip_server(OipServer(instant)) as server:
            with pytest.raises(NotFound, match="no model other"):
                await describe(server.target, "oip", "other", "")

    async def test_the_other_protocol(self) -> None:
        async with oip_server(OipServer(instant)) as server:
            with pytest.raises(Unimplemented, match=f"{server.target} does not speak headrace.v1; try --protocol oip"):
                await describe(server.target, "headrace", "echo", "")
        async with scripted_server() as scripted:
            with pytest.raises(Unimplemented, match="does not speak the Open Inference Protocol; try --protocol head"):
                await describe(scripted.target, "oip", "echo", "")

    async def test_totals(self) -> None:
        async with (
            oip_server(OipServer(lambda _: 0.04)) as server,
            one(server.target, "oip", "unary") as caller,
            open_totals(server.target, "oip", "echo", "") as ask,
        ):
            before = await ask()
            await answers(caller, 3)
            after = await ask()
        assert before == (0, 0, 0)
        assert after is not None
        assert after.successes == 3
        assert (after.queue, after.compute) == pytest.approx((0.03, 0.09))

    async def test_a_server_without_statistics(self) -> None:
        mute = OipServer(instant, has_statistics=False)
        async with oip_server(mute) as server, open_totals(server.target, "oip", "echo", "") as ask:
            assert await ask() is None

    def test_means_between_totals(self) -> None:
        assert Totals(14, 3.0, 7.0).since(Totals(10, 1.0, 4.0)) == Server(4, 0.5, 0.75)
        assert Totals(10, 1.0, 4.0).since(Totals(10, 1.0, 4.0)) is None
        assert Totals(2, 1.0, 4.0).since(Totals(10, 1.0, 4.0)) is None  # it was loaded anew
