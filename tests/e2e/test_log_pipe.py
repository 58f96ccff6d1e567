"""Readers of the log that stall, and floods of messages: nobody waits for the log, and it says what it leaves out."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
import headrace.client.blocking as blocking
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.pipes import Pipe, unread_pipe
from tests.e2e.serving import F32, Serve, Served
from tests.e2e.talkative import LINES, WORD
from tests.stopwatch import Stopwatch
from tests.waiting import until

ONE = np.ones(1, np.float32)
AT_ONCE = 2.0
"""Seconds in which a server ends that need not wait for anything."""
DROPPED = re.compile(r"^(\d+) lines were dropped here: standard error could not be written$", re.MULTILINE)
INCIDENT = re.compile(r"its log has the details under (\w+)")


@contextmanager
def piped(pipe: Pipe, folder: Path, *arguments: str, module: str = "headrace.server") -> Iterator[Served]:
    """A server whose standard error is a pipe."""
    with Served([*arguments, F32], folder / "unused.log", module=module, stderr=pipe.writing) as served:
        yield served


class Latencies:
    """A client that infers all the time, and how long each answer takes, in seconds."""

    def __init__(self, address: str) -> None:
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address,))

    def _run(self, address: str) -> None:
        with Stopwatch() as watch, blocking.connect(address) as server, server.stream() as stream:
            while not self._stop.is_set():
                watch.start()
                assert stream.submit("scale", {"x": ONE}).result(30)["y"].tolist() == [3]
                self.seconds.append(watch.ran())

    def __enter__(self) -> Latencies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def talk(address: str, count: int) -> None:
    """Have a talkative server log LINES messages this many times."""
    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(count):
            assert stub.ServerLive(oip.ServerLiveRequest(), timeout=30).live


def test_a_log_that_is_not_read_holds_up_nobody(tmp_path: Path, stopwatch: Stopwatch) -> None:
    """10 MB of messages while nobody reads them: clients are served, and the end is not delayed."""
    model = str(models.scale(tmp_path))
    with unread_pipe() as pipe:
        with piped(pipe, tmp_path, model, "--log-level=debug", module="tests.e2e.talkative") as served:
            with Latencies(served.address) as good:
                talk(served.address, 100)
            assert len(good.seconds) > 20
            assert max(good.seconds) < 1
            stopwatch.start()
            assert served.stop() == 0
            assert stopwatch.ran() < AT_ONCE
        pipe.read()


def test_the_log_says_how_many_messages_are_missing(tmp_path: Path) -> None:
    """Once it is read again. Every message is either there or counted, and none is cut."""
    model = str(models.scale(tmp_path))
    with (
        unread_pipe() as pipe,
        piped(pipe, tmp_path, model, "--log-level=debug", module="tests.e2e.talkative") as served,
    ):
        talk(served.address, 30)
        pipe.read()
        until(lambda: DROPPED.search(pipe.text))
        talk(served.address, 1)
        assert served.stop() == 0
    dropped = sum(int(count) for count in DROPPED.findall(pipe.text))
    lines = re.findall(rf"^\S+ \S+ DEBUG headrace.talkative: {WORD} x{{1000}}$", pipe.text, re.MULTILINE)
    assert dropped > 0
    others = len(lines) + dropped - 31 * LINES  # gRPC has messages of this level as well
    assert 0 <= others < 200


def test_a_log_that_is_full_at_the_start_holds_up_nobody(tmp_path: Path, stopwatch: Stopwatch) -> None:
    with unread_pipe() as pipe:
        pipe.fill()
        with piped(pipe, tmp_path, str(models.scale(tmp_path))) as served:
            with blocking.connect(served.address) as server:
                assert server.infer("scale", {"x": ONE})["y"].tolist() == [3]
            stopwatch.start()
            assert served.stop() == 0
            assert stopwatch.ran() < AT_ONCE
        pipe.read()


def test_a_start_that_fails_ends_though_the_log_is_full(tmp_path: Path) -> None:
    with unread_pipe() as pipe:
        pipe.fill()
        command = [sys.executable, "-m", "headrace.server", str(tmp_path / "missing.xml")]
        assert subprocess.run(command, stderr=pipe.writing, timeout=120, check=False).returncode == 3
        pipe.read()


@pytest.mark.parametrize("how", ["full", "closed"])
def test_standard_output_that_is_not_read_holds_up_nobody(tmp_path: Path, how: str) -> None:
    """The line that says that the server is ready waits for its reader, and the server does not."""
    address = f"unix:{tmp_path}/socket"
    command = [sys.executable, "-m", "headrace.server", str(models.scale(tmp_path)), f"--host={address}"]
    with unread_pipe() as pipe:
        pipe.fill()
        if how == "closed":
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        with subprocess.Popen(command, stdout=pipe.writing) as server:
            try:
                with blocking.connect(address, connect_timeout=30) as client:
                    deadline = time.monotonic() + 30
                    while not client.models():  # the port is open before they are loaded
                        assert time.monotonic() < deadline
                    assert client.infer("scale", {"x": ONE})["y"].tolist() == [3]
                server.send_signal(signal.SIGTERM)
                assert server.wait(30) == 0
            finally:
                server.kill()
        pipe.read()


def test_a_reader_of_the_log_that_has_gone_ends_nothing(tmp_path: Path) -> None:
    """As after `headrace-server ... 2>&1 | head`."""
    with (
        unread_pipe() as pipe,
        piped(pipe, tmp_path, str(models.failing(tmp_path)), str(models.scale(tmp_path))) as served,
    ):
        pipe.close_reading()
        with blocking.connect(served.address) as server:
            for _ in range(20):
                with pytest.raises(hc.Internal):
                    server.infer("failing", {"x": ONE})
            assert server.infer("scale", {"x": ONE})["y"].tolist() == [3]
        assert served.stop() == 0


async def test_a_flood_of_incidents_has_a_few_tracebacks_and_a_count(serve: Serve, tmp_path: Path) -> None:
    """500 runs fail. Each client is told an id that is in the log."""
    served = serve(str(models.failing(tmp_path)))
    ids: set[str] = set()
    async with hc.connect(served.address) as server, server.stream() as stream:
        for _ in range(5):
            tickets = [await stream.submit("failing", {"x": ONE}) for _ in range(100)]
            for ticket in tickets:
                with pytest.raises(hc.Internal) as failed:
                    await ticket
                found = INCIDENT.search(str(failed.value))
                assert found
                ids.add(found[1])
    assert served.stop() == 0
    log = served.log
    assert all(number in log for number in ids)
    shown = log.count("ERROR headrace.server.dispatcher")
    (left_out,) = re.findall(r"(\d+) more of these were left out within 60 s: incident", log)
    assert 0 < log.count("Traceback") <= 3
    assert shown + int(left_out) == 500
    assert shown <= 100
    assert log.count("\n") < 400


def test_a_line_is_written_once_though_openvino_has_no_home_folder(serve: Serve, tmp_path: Path) -> None:
    """Importing OpenVINO then logs a warning, which gives the root logger a handler before the server has one."""
    served = serve(models.add_multiply(tmp_path), env={"HOME": "/dev/null"})
    assert served.stop() == 0
    lines = served.log.splitlines()
    assert sum("loaded model 'add_multiply'" in line for line in lines) == 1, served.log
