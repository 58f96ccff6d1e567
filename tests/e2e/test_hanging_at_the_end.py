"""Signals: the process ends in time, whatever hangs."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.operating import NOT_SERVING, SERVING, Operator
from tests.e2e.serving import Serve, Served
from tests.e2e.stopping import (
    AT_ONCE,
    LONG,
    ONE,
    STOPPING,
    ends_within,
    processor_seconds,
    status_of,
    submit,
    wait_until_it_computes,
)
from tests.e2e.stubs import Command, Event, StubStream
from tests.stopwatch import Stopwatch
from tests.waiting import until


@contextmanager
def file_that_does_not_open(path: Path) -> Iterator[Callable[[], object]]:
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

        yield lambda: until(lambda: fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK)


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
            until(lambda: takes_signals(blocked.pid))
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


def wide() -> oip.ModelInferRequest:
    """An answer of 4 MiB."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])
    return oip.ModelInferRequest(model_name="wide", inputs=[tensor], raw_input_contents=[bytes(64)])
