"""The requests of perf_analyzer before, during and after its measurements."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import triton_to_np_dtype

from tests.triton.messages import given
from tests.triton.streams import CallbackStream

REQUESTS = 400


def inputs_of(client: InferenceServerClient, model: str) -> list[InferInput]:
    """As perf_analyzer makes them: from metadata and configuration alone, a dynamic dimension being 1."""
    metadata, config = client.get_model_metadata(model), client.get_model_config(model).config
    assert config.max_batch_size == 0  # so that metadata's shapes are whole
    assert [port.name for port in config.input] == [port.name for port in metadata.inputs]
    random = np.random.default_rng(1)
    return [
        given(port.name, random.random([abs(size) for size in port.shape]).astype(triton_to_np_dtype(port.datatype)))
        for port in metadata.inputs
    ]


def statistics(client: InferenceServerClient, model: str) -> Any:
    (stats,) = client.get_inference_statistics(model).model_stats
    return stats


def check_growth(before: Any, after: Any, requests: int) -> None:
    assert after.inference_count - before.inference_count == requests
    assert 1 <= after.execution_count - before.execution_count <= requests
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        grown = getattr(after.inference_stats, name)
        assert grown.count - getattr(before.inference_stats, name).count == requests, name
        assert grown.ns >= getattr(before.inference_stats, name).ns
    assert after.inference_stats.fail.count == before.inference_stats.fail.count


@pytest.mark.parametrize("model", ["add_multiply", "static_add_multiply", "scale", "identity_f16"])
def test_four_requests_are_measured_at_a_time(client: InferenceServerClient, model: str) -> None:
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert client.get_server_metadata().extensions
    inputs = inputs_of(client, model)
    before = statistics(client, model)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: client.infer(model, inputs), range(REQUESTS)))
    assert len(done) == REQUESTS
    check_growth(before, statistics(client, model), REQUESTS)


def test_a_stream_with_ids_is_measured(client: InferenceServerClient) -> None:
    """`--streaming`: a window of requests, each answer sends the next."""
    model = "add_multiply"
    inputs = inputs_of(client, model)
    before = statistics(client, model)
    sent = count()
    answered: list[str] = []
    with CallbackStream(client) as stream:
        for _ in range(8):
            stream.send(model, inputs, request_id=str(next(sent)), enable_empty_final_response=True)
        while len(answered) < REQUESTS:
            response = stream.result().get_response()
            assert response.parameters["triton_final_response"].bool_param
            answered.append(response.id)
            if (number := next(sent)) < REQUESTS:
                stream.send(model, inputs, request_id=str(number), enable_empty_final_response=True)
    assert answered == [str(number) for number in range(REQUESTS)]
    check_growth(before, statistics(client, model), REQUESTS)


def test_a_model_of_strings_is_measured(client: InferenceServerClient) -> None:
    (port,) = client.get_model_metadata("strings").inputs
    assert (port.datatype, list(port.shape)) == ("BYTES", [-1])
    before = statistics(client, "strings")
    for _ in range(5):
        client.infer("strings", [given("x", np.array([b"random"], object))])
    check_growth(before, statistics(client, "strings"), 5)
