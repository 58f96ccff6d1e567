"""Callers of the Open Inference Protocol: what they send, what they report, and how they handle failures."""

from __future__ import annotations

import asyncio
import contextlib
import time

import grpc
import numpy as np
import pytest

from headrace.client.load.callers.caller import Request
from headrace.client.load.callers.connect import connect_callers, connect_totals, describe_model
from headrace.client.load.callers.departure import Departure
from headrace.client.load.callers.model_totals import ModelTotals
from headrace.client.load.record.run import Mode, ServerMeans
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.models import Model, Port
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import Code, NotFound, Unimplemented
from tests.client.aio.scripted_server import scripted_server
from tests.client.load.scripted_oip_server import ScriptedOipServer, scripted_oip_server
from tests.client.load.single_caller import ECHO, INPUTS, answers, single_caller
from tests.stopwatch import Stopwatch

MODES: list[Mode] = ["stream", "unary"]
modes = pytest.mark.parametrize("mode", MODES)


def instant(_: int) -> float:
    return 0.0


def never(_: int) -> float:
    return 3600.0


class TestCalls:
    @modes
    async def test_a_request_carries_all_options(self, mode: Mode) -> None:
        request = Request("echo", "3", outputs=("y",), timeout=1.5, priority=7)
        async with (
            scripted_oip_server(ScriptedOipServer(instant)) as server,
            single_caller(server.target, "oip", mode, request) as caller,
        ):
            before = time.perf_counter()
            answer = await caller.call(INPUTS, Departure())
            assert answer.code == 0, answer.message
            assert before <= answer.sent < answer.ended <= time.perf_counter()
            assert np.isnan(answer.times).all()
        (sent,) = server.requests
        assert (sent.model_name, sent.model_version) == ("echo", "3")
        assert [(x.name, x.datatype, [*x.shape]) for x in sent.inputs] == [("x", "FP32", [2, 16])]
        assert [*sent.raw_input_contents] == [INPUTS["x"].tobytes()]
        assert [output.name for output in sent.outputs] == ["y"]
        assert sent.parameters["timeout"].int64_param == 1_500_000
        # In this protocol, 1 is the most urgent.
        assert sent.parameters["priority"].uint64_param == 3

    @modes
    async def test_options_that_are_not_set_are_not_sent(self, mode: Mode) -> None:
        async with (
            scripted_oip_server(ScriptedOipServer(instant)) as server,
            single_caller(server.target, "oip", mode) as caller,
        ):
            await answers(caller, 2)
        for sent in server.requests:
            assert not sent.parameters
            assert not sent.outputs
            assert not sent.model_version

    async def test_stream_answers_are_matched_in_any_order(self) -> None:
        async with (
            scripted_oip_server(ScriptedOipServer(lambda n: 0.3 - 0.1 * n)) as server,
            single_caller(server.target, "oip", "stream") as it,
        ):
            first, second, third = await answers(it, 3)
            assert [first.code, second.code, third.code] == [0, 0, 0]
            assert first.sent < second.sent < third.sent
            assert third.ended < second.ended < first.ended
        assert len({request.id for request in server.requests}) == 3

    async def test_stream_answers_without_ids_are_matched_in_order(self) -> None:
        server = ScriptedOipServer(lambda n: 0.2 - 0.1 * n, anonymous=True)
        async with scripted_oip_server(server), single_caller(server.target, "oip", "stream") as caller:
            first, second = await answers(caller, 2)
            assert (first.code, second.code) == (0, 0)
            assert first.ended <= second.ended

    @pytest.mark.parametrize(("mode", "code"), [("stream", grpc.StatusCode.UNKNOWN), ("unary", Code.INVALID_ARGUMENT)])
    async def test_an_error_of_the_server_is_returned_as_an_answer(
        self, mode: Mode, code: Code | grpc.StatusCode
    ) -> None:
        number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code)
        failing = Request("failing", "")
        async with (
            scripted_oip_server(ScriptedOipServer(instant)) as server,
            single_caller(server.target, "oip", mode, failing) as caller,
        ):
            for answer in await answers(caller, 3):
                assert (answer.code, answer.message) == (number, "model failing has failed")
                assert answer.sent <= answer.ended

    @modes
    async def test_the_client_enforces_the_timeout_itself(self, mode: Mode, stopwatch: Stopwatch) -> None:
        server = ScriptedOipServer(lambda n: 0 if n else 3600)
        request = Request("echo", "", timeout=0.25)
        async with scripted_oip_server(server), single_caller(server.target, "oip", mode, request, window=1) as caller:
            stopwatch.start()
            late = await caller.call(INPUTS, Departure())
            assert late.code == Code.DEADLINE_EXCEEDED
            assert stopwatch.elapsed() >= 0.25
            assert late.ended > late.sent
            assert stopwatch.ran() < 0.6
            assert (await caller.call(INPUTS, Departure())).code == 0

    @modes
    async def test_calls_beyond_the_window_wait_before_they_are_sent(self, mode: Mode) -> None:
        server = ScriptedOipServer(lambda _: 0.1)
        async with scripted_oip_server(server), single_caller(server.target, "oip", mode, window=2) as caller:
            first, second, third = (await answers(caller, 5))[:3]
            assert third.sent >= min(first.ended, second.ended)
        assert server.most_at_once == 2

    @modes
    async def test_each_caller_has_a_connection_of_its_own(self, mode: Mode) -> None:
        async with (
            scripted_oip_server(ScriptedOipServer(instant)) as server,
            connect_callers(ConnectionSettings(target=server.target), "oip", mode, 3, 8, ECHO) as callers,
        ):
            assert [(await caller.call(INPUTS, Departure())).code for caller in callers] == [0, 0, 0]
        assert len(server.peers) == 3

    @modes
    async def test_cancelling_a_call_does_not_affect_the_others(self, mode: Mode) -> None:
        server = ScriptedOipServer(lambda n: 0.2 if n else 3600)
        async with scripted_oip_server(server), single_caller(server.target, "oip", mode, window=2) as caller:
            forgotten = asyncio.create_task(caller.call(INPUTS, Departure()))
            other = asyncio.create_task(caller.call(INPUTS, Departure()))
            await server.arrived(2)
            forgotten.cancel()
            assert (await other).code == 0
            assert [answer.code for answer in await answers(caller, 4)] == [0] * 4

    @modes
    async def test_a_caller_recovers_when_the_server_comes_back(self, mode: Mode) -> None:
        server = ScriptedOipServer(never)
        async with contextlib.AsyncExitStack() as stack:
            async with scripted_oip_server(server):
                address = server.target
                caller = await stack.enter_async_context(single_caller(address, "oip", mode))
                pending = asyncio.create_task(caller.call(INPUTS, Departure()))
                await server.arrived(1)
            lost = await pending
            assert lost.code in (Code.UNAVAILABLE, Code.CANCELLED)
            assert lost.message
            left = True
            while left:  # until the end of the connection has been seen
                gone = await caller.call(INPUTS, Departure())
                assert gone.code == Code.UNAVAILABLE
                left = not np.isnan(gone.sent)
            async with scripted_oip_server(ScriptedOipServer(instant), address):
                while (await caller.call(INPUTS, Departure())).code:
                    pass

    @modes
    async def test_closing_a_caller_does_not_wait_for_answers(self, mode: Mode) -> None:
        async with scripted_oip_server(ScriptedOipServer(never)) as server:
            async with single_caller(server.target, "oip", mode) as caller:
                pending = asyncio.create_task(caller.call(INPUTS, Departure()))
                await server.arrived(1)
            assert (await pending).code == Code.CANCELLED

    async def test_options_that_the_protocol_lacks_are_usage_errors(self) -> None:
        for request, message in (
            (Request("echo", "", keep=("y",)), "--keep requires --protocol headrace and --mode stream"),
            (Request("echo", "", outputs=()), "cannot request no outputs"),
        ):
            with pytest.raises(UsageError, match=message):
                async with single_caller("127.0.0.1:1", "oip", "stream", request):
                    pass
        with pytest.raises(UsageError, match="--keep requires --protocol headrace and --mode stream"):
            async with single_caller("127.0.0.1:1", "headrace", "unary", Request("echo", "", keep=("y",))):
                pass


class TestDescriptions:
    async def test_a_model_is_described_with_its_ports_and_its_newest_version(self) -> None:
        async with scripted_oip_server(ScriptedOipServer(instant)) as server:
            model, name = await describe_model(ConnectionSettings(target=server.target), "oip", "echo", "")
            assert name == "scripted 7"
            x, y = (Port(name, "FP32", (None, 16), (name,)) for name in "xy")
            assert model == Model("echo", "10", (x,), (y,), has_variables=False, slots=0)
            assert (await describe_model(ConnectionSettings(target=server.target), "oip", "echo", "9"))[
                0
            ].version == "9"

    async def test_an_unknown_model_is_not_found(self) -> None:
        async with scripted_oip_server(ScriptedOipServer(instant)) as server:
            with pytest.raises(NotFound, match="no model other"):
                await describe_model(ConnectionSettings(target=server.target), "oip", "other", "")

    async def test_a_server_of_the_other_protocol_is_an_error_that_names_the_flag(self) -> None:
        async with scripted_oip_server(ScriptedOipServer(instant)) as server:
            with pytest.raises(Unimplemented, match=f"{server.target} does not speak headrace.v1; try --protocol oip"):
                await describe_model(ConnectionSettings(target=server.target), "headrace", "echo", "")
        async with scripted_server() as scripted:
            with pytest.raises(Unimplemented, match="does not speak the Open Inference Protocol; try --protocol head"):
                await describe_model(ConnectionSettings(target=scripted.target), "oip", "echo", "")

    async def test_totals_count_the_successes_and_their_times(self) -> None:
        async with (
            scripted_oip_server(ScriptedOipServer(lambda _: 0.04)) as server,
            single_caller(server.target, "oip", "unary") as caller,
            connect_totals(ConnectionSettings(target=server.target), "oip", "echo", "") as ask,
        ):
            before = await ask()
            await answers(caller, 3)
            after = await ask()
        assert before == (0, 0, 0)
        assert after is not None
        assert after.successes == 3
        assert (after.queue, after.compute) == pytest.approx((0.03, 0.09))

    async def test_a_server_without_statistics_has_no_totals(self) -> None:
        mute = ScriptedOipServer(instant, has_statistics=False)
        async with (
            scripted_oip_server(mute) as server,
            connect_totals(ConnectionSettings(target=server.target), "oip", "echo", "") as ask,
        ):
            assert await ask() is None

    def test_means_are_taken_between_two_totals(self) -> None:
        assert ModelTotals(14, 3.0, 7.0).since(ModelTotals(10, 1.0, 4.0)) == ServerMeans(4, 0.5, 0.75)
        assert ModelTotals(10, 1.0, 4.0).since(ModelTotals(10, 1.0, 4.0)) is None
        assert ModelTotals(2, 1.0, 4.0).since(ModelTotals(10, 1.0, 4.0)) is None  # the model was loaded again
