"""Signals: what is in flight is answered, all other clients are told, and the process ends in time, whatever hangs."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.oip import open_inference_pb2 as oip
from tests import models
from tests.e2e.operating import NOT_SERVING, SERVING, Operator
from tests.e2e.serving import Serve
from tests.e2e.stopping import (
    AT_ONCE,
    LONG,
    ONE,
    STOPPING,
    ends_within,
    status_of,
)
from tests.e2e.stream_errors import outcome, refusal
from tests.e2e.stubs import Event, StubStream
from tests.stopwatch import Stopwatch
from tests.waiting import until

pytestmark = pytest.mark.transport


class TestIdle:
    """With nothing in flight and nothing kept the server ends at once, and tells every client."""

    def test_idle_streams_and_watches_end_at_once(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), LONG)
        host, port = served.address.split(":")
        operator = Operator(served.address)
        nothing: SimpleQueue[Any] = SimpleQueue()
        with operator.channel, socket.create_connection((host, int(port))), StubStream(served.address) as stream:
            triton = operator.stub.ModelStreamInfer(iter(nothing.get, None))
            asked: SimpleQueue[reflection_pb2.ServerReflectionRequest] = SimpleQueue()
            asked.put(reflection_pb2.ServerReflectionRequest(list_services=""))
            reflection = ServerReflectionStub(operator.channel).ServerReflectionInfo(iter(asked.get, None))
            assert next(reflection).list_services_response.service
            watch = operator.watch("")
            assert next(watch) == SERVING
            with ends_within(AT_ONCE, served, 0):
                served.process.send_signal(signal.SIGTERM)
                assert next(watch) == NOT_SERVING
                assert stream.receive()[0].kind == Event.DRAINING
                ends = [status_of(call) for call in (watch.call, triton, reflection, stream.events)]
                assert ends == [STOPPING] * 4

    async def test_a_client_with_nothing_in_flight_leaves_quietly(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), LONG)
        async with hc.connect(served.address) as server, server.stream() as stream:
            assert (await (await stream.submit("scale", {"x": ONE})))["y"].tolist() == [3]
            served.process.send_signal(signal.SIGTERM)
            served.process.wait(30)
            assert (await refusal(stream)).retryable

    def test_the_address_is_free_at_once(self, serve: Serve, tmp_path: Path) -> None:
        model = str(models.scale(tmp_path))
        served = serve(model)
        port = served.address.split(":")[1]
        assert served.stop() == 0
        assert serve(model, f"--port={port}").address == served.address


class TestInFlight:
    async def test_everything_in_flight_is_answered_or_fails_retryably(self, serve: Serve, tmp_path: Path) -> None:
        """A window full of Infers is on its way when the signal comes, and more come until the client hears of it."""
        served = serve(str(models.slow(tmp_path, steps=1)), "--slots=1", "--window=200", LONG)
        async with hc.connect(served.address) as server:
            tickets: list[hc.Ticket] = []
            async with server.stream() as stream:
                tickets += [await stream.submit("slow", {"x": ONE}) for _ in range(200)]
                assert (await tickets[0])["y"].tolist() == [1]
                admitted = (await server.status()).tickets_in_flight
                served.process.send_signal(signal.SIGTERM)
                while not stream.draining:
                    tickets.append(await stream.submit("slow", {"x": ONE}))
                    await asyncio.sleep(0)
            assert served.process.wait(30) == 0
            answered = 0
            for ticket in tickets:
                error = await outcome(ticket)
                if error is None:
                    assert (await ticket)["y"].tolist() == [1]
                    answered += 1
                else:
                    assert isinstance(error, hc.Unavailable)
                    assert error.retryable
            assert answered >= admitted > 0

    def test_kept_outputs_hold_the_server_until_they_are_released(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), LONG)
        with blocking.connect(served.address) as server, server.stream() as stream:
            ticket = stream.submit("scale", {"x": ONE}, keep=["y"])
            ticket.result(30)
            served.process.send_signal(signal.SIGTERM)
            until(lambda: stream.draining)
            assert ticket.fetch("y").tolist() == [3]
            with ends_within(AT_ONCE, served, 0):
                ticket.release()

    def test_new_streams_and_calls_are_told_that_the_server_stops(self, serve: Serve, tmp_path: Path) -> None:
        """While others finish: on the same connection, and on new ones."""
        served = serve(str(models.scale(tmp_path)), LONG)
        with blocking.connect(served.address) as server, server.stream() as stream:
            ticket = stream.submit("scale", {"x": ONE}, keep=["y"])
            ticket.result(30)
            served.process.send_signal(signal.SIGTERM)
            until(lambda: stream.draining)
            with blocking.connect(served.address) as other:
                for each in (server, other):
                    with pytest.raises(hc.Unavailable, match="stopping"):
                        each.infer("scale", {"x": ONE})
                    with pytest.raises(hc.Unavailable, match="stopping"), each.stream():
                        pass
                    assert each.status().draining
            ticket.release()
        assert served.process.wait(30) == 0


class TestDelay:
    def test_a_delayed_server_is_not_ready_while_it_still_serves(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), "--drain-delay=60", LONG)
        operator = Operator(served.address)
        with operator.channel, blocking.connect(served.address) as server, server.stream() as stream:
            watch = operator.watch("scale")
            assert next(watch) == SERVING
            served.process.send_signal(signal.SIGTERM)
            assert next(watch) == NOT_SERVING
            assert operator.check("") == NOT_SERVING
            assert not operator.stub.ServerReady(oip.ServerReadyRequest()).ready
            assert not operator.stub.ModelReady(oip.ModelReadyRequest(name="scale")).ready
            assert operator.stub.ServerLive(oip.ServerLiveRequest()).live
            # All of it on a new connection, too.
            with blocking.connect(served.address) as late, late.stream() as new:
                for each in (stream, new):
                    assert each.submit("scale", {"x": ONE}).result(30)["y"].tolist() == [3]
                    assert not each.draining
                assert late.infer("scale", {"x": ONE})["y"].tolist() == [3]
            watch.call.cancel()
        assert served.process.poll() is None

    def test_clients_are_told_when_the_delay_is_over(self, serve: Serve, tmp_path: Path, stopwatch: Stopwatch) -> None:
        served = serve(str(models.scale(tmp_path)), "--drain-delay=1", LONG)
        operator = Operator(served.address)
        with operator.channel, StubStream(served.address) as stream:
            watch = operator.watch("scale")
            assert next(watch) == SERVING
            stopwatch.start()
            served.process.send_signal(signal.SIGTERM)
            assert next(watch) == NOT_SERVING
            assert stream.receive()[0].kind == Event.DRAINING
            assert stopwatch.elapsed() >= 1
            assert status_of(watch.call) == STOPPING
        assert served.process.wait(30) == 0

    def test_a_second_signal_does_not_wait_for_the_delay(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.scale(tmp_path)), "--drain-delay=60")
        operator = Operator(served.address)
        with operator.channel:
            watch = operator.watch("")
            assert next(watch) == SERVING
            served.process.send_signal(signal.SIGTERM)
            assert next(watch) == NOT_SERVING
            with ends_within(AT_ONCE, served, 130):
                served.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("option", ["--grace=inf", "--grace=1e300", "--keep-seconds=inf", "--keep-seconds=1e300"])
def test_an_infinite_grace_period_waits(serve: Serve, tmp_path: Path, option: str) -> None:
    served = serve(str(models.scale(tmp_path)), option)
    with blocking.connect(served.address) as server, server.stream() as stream:
        ticket = stream.submit("scale", {"x": ONE}, keep=["y"])
        assert ticket.result(30)["y"].tolist() == [3]
        if "keep" in option:
            assert stream.hello.keep_seconds == math.inf
        served.process.send_signal(signal.SIGTERM)
        until(lambda: stream.draining)
        assert ticket.fetch("y").tolist() == [3]
        ticket.release()
        assert served.process.wait(30) == 0
    assert "Traceback" not in served.log
