"""Many requests on one stream: order, errors in-band, ends."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput

from tests.e2e.serving import Served
from tests.stopwatch import Stopwatch
from tests.triton.messages import ONES, X, check_sentence, given, pair, refused
from tests.triton.requests import GOOD, ONE, SLOW, UNKNOWN
from tests.triton.streams import CallbackStream, RawStream

VANISHING = """
import sys
from tests.triton.requests import GOOD, ONE, SLOW, UNKNOWN
from tests.triton.streams import RawStream
from tests.triton.requests import GOOD, SLOW
stream = RawStream(sys.argv[1])
stream.send(GOOD, *[SLOW] * 200)
stream.receive()
print("answered", flush=True)
sys.stdin.read()
"""


def test_two_hundred_requests_of_several_models_are_in_flight(client: InferenceServerClient) -> None:
    """The first is the slowest: its answer still comes first."""
    with CallbackStream(client) as stream:
        stream.send("slow", [given("x", ONE)], request_id="0")
        for number in range(1, 200):
            array = np.full((1, 16), number, np.float32)
            if number % 2:
                stream.send("add_multiply", pair(array, ONES), request_id=str(number))
            else:
                stream.send("scale", [given("x", array[0])], request_id=str(number))
        results = [stream.result() for _ in range(200)]
    assert [result.get_response().id for result in results] == [str(number) for number in range(200)]
    assert results[0].as_numpy("y") == ONE
    for number in range(1, 200):
        name, expected = ("sum", number + 1) if number % 2 else ("y", 2 * number + 1)
        assert (results[number].as_numpy(name) == expected).all()


def test_more_requests_than_any_window_are_served(client: InferenceServerClient) -> None:
    """This protocol has no window: a client that sends more than the server takes waits, and is not refused."""
    with CallbackStream(client) as stream:
        for number in range(3000):
            stream.send("scale", [given("x", np.array([number], np.float32))], request_id=str(number))
        for number in range(3000):
            result = stream.result()
            assert result.get_response().id == str(number)
            assert result.as_numpy("y") == [2 * number + 1]


def test_a_stream_has_outputs_parameters_and_versions(client: InferenceServerClient) -> None:
    with CallbackStream(client) as stream:
        outputs = [InferRequestedOutput("product")]
        stream.send("add_multiply", pair(), model_version="1", outputs=outputs, priority=1, timeout=60_000_000)
        result = stream.result()
        assert [output.name for output in result.get_response().outputs] == ["product"]
        np.testing.assert_array_equal(result.as_numpy("product"), X)
        stream.send("slow", [given("x", ONE)])
        stream.send("slow", [given("x", ONE)], timeout=1)
        assert stream.result().as_numpy("y") == ONE
        check_sentence(stream.error().message(), "had not started")
        stream.send("counter", [given("x", ONE)], sequence_id=3, sequence_start=True)
        check_sentence(stream.error().message(), "'counter'")
        stream.send("scale", [given("x", ONE)], sequence_id=3, sequence_start=True)
        assert stream.result().as_numpy("y") == [3]


def test_an_error_comes_in_band(client: InferenceServerClient, served: Served) -> None:
    with CallbackStream(client) as stream:
        stream.send("nowhere", [given("x", ONE)])
        stream.send("scale", [given("x", ONE)])
        error = stream.error()
        assert error.status() is None
        check_sentence(error.message(), "'nowhere'")
        assert stream.result().as_numpy("y") == [3]
    with RawStream(served.address) as raw:
        raw.send(SLOW, UNKNOWN, GOOD)
        answers = [raw.receive() for _ in range(3)]
    assert [answer.infer_response.id for answer in answers] == ["slow", "unknown", "good"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert not answers[1].infer_response.outputs


def test_a_run_that_fails_is_an_error_in_band(client: InferenceServerClient) -> None:
    with CallbackStream(client) as stream:
        stream.send("failing", [given("x", np.ones(15, np.float32))])
        stream.send("failing", [given("x", np.ones(16, np.float32))])
        check_sentence(stream.error().message())
        assert stream.result().as_numpy("y").shape == (2, 8)


def test_a_stream_may_ask_for_real_statuses(client: InferenceServerClient, served: Served) -> None:
    with CallbackStream(client, headers={"triton_grpc_error": "true"}) as stream:
        stream.send("scale", [given("x", ONE)])
        assert stream.result().as_numpy("y") == [3]
        stream.send("nowhere", [given("x", ONE)])
        with refused("NOT_FOUND", "'nowhere'"):
            raise stream.error()
    with RawStream(served.address, [("triton_grpc_error", "false")]) as raw:
        raw.send(UNKNOWN, GOOD)
        assert raw.receive().error_message
        assert raw.receive().infer_response.id == "good"


def test_the_final_response_is_marked(client: InferenceServerClient) -> None:
    with CallbackStream(client) as stream:
        stream.send("scale", [given("x", ONE)], enable_empty_final_response=True, request_id="1")
        stream.send("scale", [given("x", ONE)], request_id="2")
        first = stream.result().get_response()
        assert first.id == "1"
        assert first.parameters["triton_final_response"].bool_param
        assert len(first.outputs) == 1
        assert stream.result().get_response().id == "2"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_stream_may_be_compressed(client: InferenceServerClient, algorithm: str) -> None:
    with CallbackStream(client, compression_algorithm=algorithm) as stream:
        stream.send("scale", [given("x", np.zeros(100_000, np.float32))])
        assert (stream.result().as_numpy("y") == 1).all()


def test_half_close_finishes_what_is_in_flight(served: Served) -> None:
    with RawStream(served.address) as raw:
        raw.send(SLOW, GOOD)
        raw.half_close()
        assert [answer.infer_response.id for answer in raw.answers] == ["slow", "good"]
        assert raw.answers.code().name == "OK"


def test_stopping_a_stream_cancels_its_requests(client: InferenceServerClient) -> None:
    stream = CallbackStream(client)
    stream.send("scale", [given("x", ONE)])
    stream.result()
    for _ in range(200):
        stream.send("slow", [given("x", ONE)])
    client.stop_stream(cancel_requests=True)
    assert is_free(client)


def test_a_client_may_vanish(client: InferenceServerClient, served: Served) -> None:
    command = [sys.executable, "-c", VANISHING, served.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vanishing:
        assert vanishing.stdout is not None
        assert vanishing.stdout.readline() == "answered\n"
        vanishing.kill()
    assert is_free(client)


def is_free(client: InferenceServerClient) -> bool:
    """Two hundred runs of the slow model would take a minute: those in the queue are gone."""
    with Stopwatch() as watch:
        return bool(client.infer("slow", [given("x", ONE)]).as_numpy("y") == ONE) and watch.ran() < 10
