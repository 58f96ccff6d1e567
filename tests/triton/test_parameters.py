"""What a request may contain besides its tensors: timeout, priority, sequences, classification, unknown ones."""

from __future__ import annotations

import time
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput, InferResult
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

import headrace.client.blocking as hc
from tests import models
from tests.e2e.serving import Serve
from tests.stopwatch import Stopwatch
from tests.triton.messages import Input, X, given, pair, refused, request

ONE = np.ones(1, np.float32)


def test_a_deadline_of_the_call_ends_it(client: InferenceServerClient, stopwatch: Stopwatch) -> None:
    stopwatch.start()
    with pytest.raises(InferenceServerException) as late:
        client.infer("slow", [given("x", ONE)], client_timeout=0.05)
    assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert stopwatch.ran() < 5
    assert client.infer("slow", [given("x", ONE)], client_timeout=30).as_numpy("y") == ONE


def test_a_timeout_in_microseconds_ends_a_request_that_waits_but_none_that_runs(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path, steps=150), "--slots=1", "--run=async")
    ends: SimpleQueue[tuple[int, str]] = SimpleQueue()

    def ask(client: InferenceServerClient, timeout: int) -> None:
        def ended(result: InferResult | None, error: InferenceServerException | None) -> None:
            ends.put((timeout, "done" if error is None else str(error.status())))

        client.async_infer("slow", [given("x", ONE)], ended, timeout=timeout)

    with InferenceServerClient(served.address) as client, hc.connect(served.address) as native:
        ask(client, 400_000)
        while not native.status().models[0].slots_running:
            assert ends.empty(), "it starts in time"
        began = time.monotonic()
        ask(client, 10_000)
        ask(client, 240_000_000)
        assert ends.get(timeout=60) == (10_000, "StatusCode.DEADLINE_EXCEEDED")
        assert ends.get(timeout=60) == (400_000, "done")
        assert time.monotonic() - began > 0.4, "it has run for longer than it was allowed to wait"
        assert ends.get(timeout=60) == (240_000_000, "done")


def test_timeouts_may_be_of_any_length(client: InferenceServerClient) -> None:
    for timeout in (0, (1 << 63) - 1):
        assert client.infer("scale", [given("x", ONE)], timeout=timeout).as_numpy("y") == [3]


def test_a_call_may_be_cancelled(client: InferenceServerClient) -> None:
    answers: SimpleQueue[InferenceServerException | None] = SimpleQueue()
    call = client.async_infer("slow", [given("x", ONE)], lambda result, error: answers.put(error))
    call.cancel()
    error = answers.get(timeout=30)
    assert error is not None
    assert error.status() == "StatusCode.CANCELLED"
    assert client.infer("slow", [given("x", ONE)], client_timeout=30).as_numpy("y") == ONE


def test_priorities_are_taken(client: InferenceServerClient) -> None:
    for priority in (1, 2, 9, (1 << 64) - 1):
        assert client.infer("scale", [given("x", ONE)], priority=priority).as_numpy("y") == [3]


def test_unknown_parameters_are_ignored(client: InferenceServerClient, stub: GRPCInferenceServiceStub) -> None:
    parameters = {"colour": "blue", "number": 7, "ratio": 0.5, "flag": True}
    assert client.infer("scale", [given("x", ONE)], parameters=parameters).as_numpy("y") == [3]
    message = request("scale", Input("x", [1], ONE.tobytes()), outputs=["y"])
    message.inputs[0].parameters["colour"].string_param = "blue"
    message.outputs[0].parameters["colour"].string_param = "blue"
    message.outputs[0].parameters["binary_data"].bool_param = True
    message.parameters["binary_data_output"].bool_param = True
    assert stub.ModelInfer(message, timeout=30).raw_output_contents == [np.array([3], np.float32).tobytes()]


@pytest.mark.parametrize("sequence_id", [7, "seven"])
def test_sequences_are_refused(client: InferenceServerClient, sequence_id: int | str) -> None:
    """A model without variables has nothing to remember; with variables each run begins anew."""
    result = client.infer("scale", [given("x", ONE)], sequence_id=sequence_id, sequence_start=True)
    assert result.as_numpy("y") == [3]
    with refused("UNIMPLEMENTED", "'counter'", "--state=sequence", "--state=ports"):
        client.infer("counter", [given("x", ONE)], sequence_id=sequence_id, sequence_start=True)
    for _ in range(2):
        assert client.infer("counter", [given("x", ONE)]).as_numpy("count") == [1]


def test_outputs_are_classified(client: InferenceServerClient) -> None:
    """Largest first, of equal ones the first: each is "value:index"."""
    x = np.array([5, 1, 9, 7, 9, 3], np.float32)
    result = client.infer("scale", [given("x", x)], outputs=[InferRequestedOutput("y", class_count=3)])
    output = result.get_output("y")
    assert (output.datatype, list(output.shape)) == ("BYTES", [3])
    assert result.as_numpy("y").tolist() == [b"19.000000:2", b"19.000000:4", b"15.000000:3"]


def test_classes_have_names(serve: Serve, tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    (tmp_path / "scale.labels.txt").write_text("cat\ndog\n")
    served = serve(path)
    with InferenceServerClient(served.address) as client:
        x = np.array([1, 2, 3], np.float32)
        result = client.infer("scale", [given("x", x)], outputs=[InferRequestedOutput("y", class_count=3)])
        assert result.as_numpy("y").tolist() == [b"7.000000:2", b"5.000000:1:dog", b"3.000000:0:cat"]
        assert client.get_model_config("scale").config.output[0].label_filename == "labels.txt"


def test_rows_are_classified_one_by_one(client: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput("product", class_count=2), InferRequestedOutput("sum")]
    rows = np.concatenate([X, -X])
    result = client.infer("add_multiply", pair(rows, np.ones_like(rows)), outputs=outputs)
    assert [output.name for output in result.get_response().outputs] == ["product", "sum"]
    assert result.as_numpy("product").tolist() == [[b"15.000000:15", b"14.000000:14"], [b"-0.000000:0", b"-1.000000:1"]]
    np.testing.assert_array_equal(result.as_numpy("sum"), rows + 1)


def test_no_more_classes_come_than_elements(client: InferenceServerClient) -> None:
    """Of integers, too."""
    words = np.array([b"a", b"bb", b"ccc"], object)
    result = client.infer("strings", [given("x", words)], outputs=[InferRequestedOutput("ends", class_count=1000)])
    assert result.as_numpy("ends").tolist() == [b"6:2", b"3:1", b"1:0"]


def test_strings_have_no_classes(client: InferenceServerClient) -> None:
    words = np.array([b"a", b"b"], object)
    with refused("INVALID_ARGUMENT", "'same'"):
        client.infer("strings", [given("x", words)], outputs=[InferRequestedOutput("same", class_count=1)])
