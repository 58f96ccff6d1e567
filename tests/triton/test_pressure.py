"""A client that sends or asks for too much waits, and blocks no other; a server that is told to stop finishes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.service_pb2 import ModelInferRequest

from tests import models
from tests.e2e.serving import F32, Serve, Served
from tests.triton.messages import ONES, Input, check_sentence, given, request
from tests.triton.streams import RawStream

MIB = 1 << 20


def wide(number: int) -> ModelInferRequest:
    """An answer of 4 MiB."""
    return request("wide", Input("x", [1, 16], ONES.tobytes()), id=str(number))


def slow(number: int) -> ModelInferRequest:
    return request("slow", Input("x", [1], np.ones(1, np.float32).tobytes()), id=str(number))


@pytest.fixture
def pressed(tmp_path: Path) -> Iterator[Served]:
    paths = [models.wide(tmp_path), models.scale(tmp_path)]
    with Served([*map(str, paths), F32, "--unsent-bytes=16MiB", "--queue-bytes=8MiB"], tmp_path / "log") as served:
        yield served


def test_many_clients_that_do_not_read_harm_no_other(pressed: Served) -> None:
    """Each waits for itself alone."""
    with ExitStack() as stack:
        client = stack.enter_context(InferenceServerClient(pressed.address))
        for _ in range(20):
            stream = stack.enter_context(RawStream(pressed.address))
            stream.send(*[wide(number) for number in range(50)])
            for _ in range(20):
                assert client.infer("scale", [given("x", np.ones(1000, np.float32))], client_timeout=30)


def test_a_client_that_does_not_read_blocks_only_itself(pressed: Served) -> None:
    """Two gigabytes of answers: they are computed as they are read, and others are served meanwhile."""
    with RawStream(pressed.address) as stream, InferenceServerClient(pressed.address) as client:
        stream.send(wide(0))
        stream.receive()
        before = pressed.resident_bytes()
        stream.send(*[wide(number) for number in range(1, 500)])
        for _ in range(300):
            assert client.infer("scale", [given("x", np.ones(1000, np.float32))]).as_numpy("y")[0] == 3
        assert client.get_inference_statistics("wide").model_stats[0].inference_count < 100
        assert pressed.resident_bytes() - before < 200 * MIB
        for number in range(1, 500):
            answer = stream.receive().infer_response
            assert answer.id == str(number)
            assert len(answer.raw_output_contents[1]) == 4 * MIB
        assert pressed.resident_bytes() - before < 200 * MIB


def test_inputs_beyond_the_budget_are_refused(pressed: Served) -> None:
    """Each is answered, or refused in its turn with words that say why."""
    x = np.zeros(MIB // 4, np.float32)
    with RawStream(pressed.address) as stream:
        stream.send(*[request("scale", Input("x", [x.size], x.tobytes()), id=str(number)) for number in range(50)])
        answers = [stream.receive() for _ in range(50)]
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(50)]
    answered = [answer for answer in answers if not answer.error_message]
    assert answered
    for answer in answers:
        if answer.error_message:
            check_sentence(answer.error_message, "bytes")


def test_what_is_in_flight_ends_before_the_server_does(serve: Serve, tmp_path: Path) -> None:
    served = serve(models.slow(tmp_path))
    with RawStream(served.address) as stream:
        stream.send(*[slow(number) for number in range(8)])
        stream.receive()  # by then the others have been admitted
        served.process.send_signal(signal.SIGTERM)
        assert [stream.receive().infer_response.id for _ in range(7)] == [str(number) for number in range(1, 8)]
        with pytest.raises(grpc.RpcError) as ended:
            stream.receive()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.process.wait(30) == 0
