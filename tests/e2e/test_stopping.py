"""Signals: what is in flight is answered, all other clients are told, and the process ends in time, whatever hangs."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.conftest import Serve
from tests.e2e.operating import NOT_SERVING, SERVING, Operator
from tests.e2e.serving import Served
from tests.e2e.stream_errors import outcome, refusal
from tests.e2e.stubs import Command, Event, StubStream
from tests.stopwatch import Stopwatch

ONE = np.ones(1, np.float32)
LONG = "--grace=60"
STOPPING = grpc.StatusCode.UNAVAILABLE, "the server is stopping"
AT_ONCE = 2.0
"""Seconds. It takes a tenth of one, half of one with a silent connection; the machine may be busy."""


@contextmanager
def ends_within(seconds: float, served: Served, *codes: int) -> Iterator[None]:
    """What is done inside has the server end so soon, with one of these exit codes."""
    with Stopwatch() as watch:
        yield
        assert served.process.wait(30) in codes
        assert watch.ran() < seconds
    assert "Traceback" not in served.log


@contextmanager
def file_that_does_not_open(path: Path) -> Iterator[Callable[[], None]]:
    """A file whose opening blocks, as in a file system that does not answer. Yields what waits for somebody to try.

    It has a lease, which the kernel takes away from its holder after 45 seconds at the earliest.
    """
    path.touch()
    with path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored, unlike SIGIO
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"the file system of the tests has no leases: {error}")

        def wait_opening() -> None:
            deadline = time.monotonic() + 30
            while fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
                assert time.monotonic() < deadline
                time.sleep(0.01)

        yield wait_opening


def status_of(call: Any) -> tuple[grpc.StatusCode, str | None]:
    """How a call ends that says nothing more."""
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    return ended.value.code(), ended.value.details()


def processor_seconds(served: Served) -> float:
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_it_computes(served: Served, before: float) -> None:
    """The run takes 2 seconds of the processor; most of it is still to come."""
    deadline = time.monotonic() + 30
    while processor_seconds(served) < before + 0.3:
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
            while not stream.draining:
                time.sleep(0.01)
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
            while not stream.draining:
                time.sleep(0.01)
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


class TestHanging:
    """A second signal ends the process, and so does the end of the grace period."""

    def test_a_model_that_is_loading_does_not_hold_up_the_end(self, serve: Serve, tmp_path: Path) -> None:
        """With nothing in flight the server does not wait for it: its caller is told."""
        path = models.scale(tmp_path)
        served = serve(str(path), "--model-control", LONG)
        labels = path.with_name("scale.labels.txt")
        with file_that_does_not_open(labels) as wait_opening, grpc.insecure_channel(served.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            load = stub.RepositoryModelLoad.future(oip.RepositoryModelLoadRequest(model_name="scale"), timeout=30)
            waits = stub.RepositoryModelLoad.future(oip.RepositoryModelLoadRequest(model_name="scale"), timeout=30)
            wait_opening()
            with ends_within(AT_ONCE, served, 0):
                served.process.send_signal(signal.SIGTERM)
                for call in (load, waits):
                    assert (call.code(), call.details()) == STOPPING

    def test_a_model_that_loads_at_start_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        path = models.scale(tmp_path)
        with file_that_does_not_open(path.with_name("scale.labels.txt")) as wait_opening:
            served = Served([str(path)], tmp_path / "log")
            wait_opening()
            with ends_within(AT_ONCE, served, 128 + signal.SIGTERM):
                served.process.send_signal(signal.SIGTERM)
        assert served.process.stdout is not None
        assert served.process.stdout.read() == ""
        served.process.stdout.close()

    @pytest.mark.parametrize("how", ["second signal", "grace"])
    def test_a_client_that_does_not_read_does_not_hold_up_the_end(self, serve: Serve, tmp_path: Path, how: str) -> None:
        served = serve(str(models.wide(tmp_path)), LONG if how == "second signal" else "--grace=0.5")
        with grpc.insecure_channel(served.address, [("grpc.max_receive_message_length", -1)]) as channel:
            stub = GRPCInferenceServiceStub(channel)
            stream = stub.ModelStreamInfer(iter([wide()] * 50))
            next(stream)
            operator = Operator(served.address)
            watch = operator.watch("")
            assert next(watch) == SERVING
            with ends_within(0.5 + 4 if how == "grace" else AT_ONCE, served, 0 if how == "grace" else 130):
                served.process.send_signal(signal.SIGTERM)
                assert next(watch) == NOT_SERVING
                if how != "grace":
                    served.process.send_signal(signal.SIGINT)
            # The process is gone; what it had sent is there, and then an error, never an end that looks well.
            with pytest.raises(grpc.RpcError) as lost:
                list(stream)
            assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
            operator.channel.close()

    @pytest.mark.parametrize("how", ["second signal", "grace"])
    def test_a_run_that_the_runtime_does_not_stop_does_not_hold_up_the_end(
        self, serve: Serve, tmp_path: Path, how: str
    ) -> None:
        grace = LONG if how == "second signal" else "--grace=0.1"
        served = serve(str(models.stubborn(tmp_path)), "--run=async", "--slots=1", grace)
        with StubStream(served.address) as stream:
            before = processor_seconds(served)
            submit(stream, "stubborn")
            wait_until_it_computes(served, before)
            with ends_within(AT_ONCE, served, *((130, 143) if how == "second signal" else (0,))):
                served.process.send_signal(signal.SIGTERM)
                assert stream.receive()[0].kind == Event.DRAINING
                if how == "second signal":
                    served.process.send_signal(signal.SIGINT)
                else:
                    failed, _ = stream.receive()
                    assert (failed.tag, failed.failure.code, failed.failure.retryable) == (1, pb.UNAVAILABLE, True)
                    assert status_of(stream.events) == STOPPING

    def test_an_event_loop_that_is_held_up_does_not_hold_up_the_end(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(str(models.stubborn(tmp_path)), "--run=direct", "--slots=1", LONG)
        with StubStream(served.address) as stream:
            submit(stream, "stubborn")
            assert stream.receive()[0].kind == Event.DONE
            # In place are runs of a shape that the slot knows.
            before = processor_seconds(served)
            stream.send(Command(tag=2, call=1, tensors=1), tensors=[ONE.tobytes()])
            wait_until_it_computes(served, before)
            with ends_within(AT_ONCE, served, 130, 143):
                served.process.send_signal(signal.SIGTERM)
                served.process.send_signal(signal.SIGINT)

    def test_a_log_that_is_not_read_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        """Standard error is a pipe that is full: nothing can be said of the end."""
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "headrace.server", str(models.scale(tmp_path)), "--port=0", "--grace=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing) as blocked, killed(blocked):
            assert blocked.stdout is not None
            assert blocked.stdout.readline().startswith(b"headrace ready")
            fill(writing)
            blocked.send_signal(signal.SIGTERM)
            assert blocked.wait(30) in (0, 1)
        os.close(reading)
        os.close(writing)

    def test_a_log_that_is_not_read_at_start_does_not_hold_up_the_end(
        self, tmp_path: Path, stopwatch: Stopwatch
    ) -> None:
        """Standard error is a pipe that is full while models load."""
        reading, writing = os.pipe()
        fill(writing)
        command = [sys.executable, "-m", "headrace.server", str(models.scale(tmp_path)), "--port=0"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writing) as blocked, killed(blocked):
            deadline = time.monotonic() + 30
            while not takes_signals(blocked.pid):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            stopwatch.start()
            blocked.send_signal(signal.SIGTERM)
            assert blocked.wait(30) in (0, 128 + signal.SIGTERM)
            assert stopwatch.ran() < AT_ONCE
        os.close(reading)
        os.close(writing)


@contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """On the way out the process is gone, whatever became of the test."""
    try:
        yield
    finally:
        process.kill()


def fill(pipe: int) -> None:
    """Write until it takes nothing more."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)


def takes_signals(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"SigCgt:\s+(\w+)", status)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("option", ["--grace=inf", "--grace=1e300", "--keep-seconds=inf", "--keep-seconds=1e300"])
def test_an_infinite_grace_period_waits(serve: Serve, tmp_path: Path, option: str) -> None:
    served = serve(str(models.scale(tmp_path)), option)
    with blocking.connect(served.address) as server, server.stream() as stream:
        ticket = stream.submit("scale", {"x": ONE}, keep=["y"])
        assert ticket.result(30)["y"].tolist() == [3]
        if "keep" in option:
            assert stream.hello.keep_seconds == math.inf
        served.process.send_signal(signal.SIGTERM)
        while not stream.draining:
            time.sleep(0.01)
        assert ticket.fetch("y").tolist() == [3]
        ticket.release()
        assert served.process.wait(30) == 0
    assert "Traceback" not in served.log


def submit(stream: StubStream, model: str) -> None:
    call = pb.Call(model=model, inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))])
    stream.send(
        Command(kind=Command.DEFINE, call=1, define=call), Command(tag=1, call=1, tensors=1), tensors=[ONE.tobytes()]
    )


def wide() -> oip.ModelInferRequest:
    """An answer of 4 MiB."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])
    return oip.ModelInferRequest(model_name="wide", inputs=[tensor], raw_input_contents=[bytes(64)])
