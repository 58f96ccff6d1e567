"""A server that stops while tritonclient has requests in flight: each is answered, or told of the end."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

import headrace.client.blocking as hc
from tests import models
from tests.e2e.serving import Serve
from tests.stopwatch import Stopwatch
from tests.triton.messages import Input, given, request
from tests.triton.streams import CallbackStream, RawStream

ONE = np.ones(1, np.float32)
SLOW = request("slow", Input("x", [1], ONE.tobytes()))


def test_the_callback_of_a_stream_is_told_that_the_server_stops(serve: Serve, tmp_path: Path) -> None:
    """Thousands of requests are on their way, more than the server has read."""
    served = serve(models.slow(tmp_path, steps=1), "--slots=1", "--window=50", "--grace=60")
    with InferenceServerClient(served.address) as client:
        stream = CallbackStream(client)
        for _ in range(5000):
            stream.send("slow", [given("x", ONE)])
        assert stream.result().as_numpy("y") == ONE
        with hc.connect(served.address) as server:
            while server.status().tickets_in_flight < 50:
                pass
        served.process.send_signal(signal.SIGTERM)
        answered = 1
        while (end := stream.next())[1] is None:
            answered += 1
        refusals = 0
        while end[1].status() is None:  # in-band, for requests that were read and not admitted
            assert "stopping" in end[1].message()
            refusals += 1
            end = stream.next()
        assert end[1].status() == "StatusCode.UNAVAILABLE"
        assert "stopping" in end[1].message()
        assert 50 <= answered < 5000
        assert refusals < 5000 - answered
        assert served.process.wait(30) == 0
        client.stop_stream()


def test_an_idle_stream_does_not_hold_up_the_end(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.scale(tmp_path), "--grace=60")
    with InferenceServerClient(served.address) as client:
        stream = CallbackStream(client)
        stream.send("scale", [given("x", ONE)])
        assert stream.result().as_numpy("y") == [3]
        served.process.send_signal(signal.SIGTERM)
        error = stream.error()
        assert error.status() == "StatusCode.UNAVAILABLE"
        assert served.process.wait(30) == 0
        client.stop_stream()


def test_a_stream_that_was_half_closed_finishes(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path, steps=8), "--grace=200")
    with RawStream(served.address) as stream:
        stream.send(*[SLOW] * 20)
        stream.half_close()
        stream.receive()
        served.process.send_signal(signal.SIGTERM)
        assert len(list(stream.answers)) == 19
        assert stream.answers.code() is grpc.StatusCode.OK
    assert served.process.wait(30) == 0


def test_after_the_grace_period_each_request_is_told(serve: Serve, tmp_path: Path, stopwatch: Stopwatch) -> None:
    served = serve(models.slow(tmp_path, steps=200), "--slots=1", "--grace=0.2")
    with RawStream(served.address) as stream:
        stream.send(*[SLOW] * 10)
        stream.receive()  # by then the others have been admitted
        stopwatch.start()
        served.process.send_signal(signal.SIGTERM)
        answers = [stream.receive() for _ in range(9)]
        assert answers[-1].error_message == "the server has stopped"
        with pytest.raises(grpc.RpcError) as ended:
            stream.receive()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.process.wait(30) == 0
    assert stopwatch.ran() < 5
