"""One inference at a time: what comes back is what was asked for."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput, InferResult
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub
from tritonclient.utils import InferenceServerException

from tests.triton.messages import DATATYPES, ONES, Input, X, given, pair, refused, request, strings


def test_all_outputs_come_when_none_is_named(client: InferenceServerClient) -> None:
    result = client.infer("add_multiply", pair(X, 2 * ONES), model_version="1")
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("add_multiply", "1", "")
    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("sum", "FP32", [1, 16]),
        ("product", "FP32", [1, 16]),
    ]
    np.testing.assert_array_equal(result.as_numpy("sum"), X + 2)
    np.testing.assert_array_equal(result.as_numpy("product"), X * 2)


def test_only_the_outputs_asked_for_come_in_their_order(client: InferenceServerClient) -> None:
    for names in (["product"], ["product", "sum"], ["sum", "product"]):
        outputs = [InferRequestedOutput(name) for name in names]
        result = client.infer("add_multiply", pair(X, 3 * ONES), outputs=outputs, request_id="r-1")
        response = result.get_response()
        assert response.id == "r-1"
        assert [output.name for output in response.outputs] == names
        assert len(response.raw_output_contents) == len(names)
        for name, expected in (("sum", X + 3), ("product", X * 3)):
            if name in names:
                np.testing.assert_array_equal(result.as_numpy(name), expected)


def test_inputs_may_come_in_any_order(client: InferenceServerClient) -> None:
    rows = np.arange(48, dtype=np.float32).reshape(3, 16)
    result = client.infer("add_multiply", [given("y", rows), given("x", 2 * rows)])
    np.testing.assert_array_equal(result.as_numpy("sum"), 3 * rows)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_bit_for_bit(client: InferenceServerClient, datatype: str) -> None:
    each = DATATYPES[datatype]
    for count in (33, 1, 0, 100_000):
        data = each.sample(count)
        result = client.infer(each.model, [given("x", data)])
        assert result.get_output("same").datatype == datatype
        same = result.as_numpy("same")
        assert same.shape == (count, 1)
        assert same.dtype == data.dtype
        assert same.tobytes() == data.tobytes()


@pytest.mark.parametrize("datatype", [name for name, each in DATATYPES.items() if each.contents])
def test_typed_contents_are_taken(stub: GRPCInferenceServiceStub, datatype: str) -> None:
    each = DATATYPES[datatype]
    for count in (5, 1000):
        data = each.sample(count)
        message = request(each.model, Input("x", [count], None, datatype))
        getattr(message.inputs[0].contents, each.contents).extend(data.tolist())
        response = stub.ModelInfer(message, timeout=30)
        assert response.raw_output_contents == [data.tobytes()]


def test_strings_are_served(client: InferenceServerClient, stub: GRPCInferenceServiceStub) -> None:
    words: list[Any] = ["water", "", "mühle", b"\x00\xff", "x" * 100_000]
    expected = [b"water", b"", "mühle".encode(), b"\x00\xff", b"x" * 100_000]
    result = client.infer("strings", [given("x", np.array(words, object))])
    assert result.get_output("same").datatype == "BYTES"
    assert result.as_numpy("same").tolist() == expected
    assert result.as_numpy("ends").tolist() == [5, 5, 11, 13, 100_013]
    typed = request("strings", Input("x", [5], None, "BYTES"), outputs=["same"])
    typed.inputs[0].contents.bytes_contents.extend(expected)
    assert stub.ModelInfer(typed, timeout=30).raw_output_contents == [strings(*expected)]


def test_scalars_are_served(client: InferenceServerClient) -> None:
    result = client.infer("scalar", [given("x", np.array(41, np.float32))])
    assert list(result.get_output("next").shape) == []
    assert result.as_numpy("next") == 42


def test_callbacks_get_results(client: InferenceServerClient) -> None:
    answers: SimpleQueue[tuple[InferResult | None, InferenceServerException | None]] = SimpleQueue()
    for number in range(50):
        client.async_infer(
            "scale",
            [given("x", np.array([number], np.float32))],
            lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    found = {}
    for _ in range(50):
        result, error = answers.get(timeout=30)
        assert error is None
        assert result is not None
        found[int(result.get_response().id)] = result.as_numpy("y").tolist()
    assert found == {number: [2 * number + 1] for number in range(50)}


def test_a_callback_gets_an_error(client: InferenceServerClient) -> None:
    answers: SimpleQueue[tuple[InferResult | None, InferenceServerException | None]] = SimpleQueue()
    client.async_infer("nowhere", pair(), lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=30)
    assert result is None
    with refused("NOT_FOUND", "'nowhere'"):
        raise error or AssertionError


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_messages_are_taken(client: InferenceServerClient, algorithm: str) -> None:
    x = np.zeros(500_000, np.float32)
    result = client.infer("scale", [given("x", x)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("y"), x + 1)


def test_a_large_output_is_sent(client: InferenceServerClient) -> None:
    result = client.infer("wide", [given("x", ONES)])
    large = result.as_numpy("large")
    assert large.shape == (1024, 1024)
    np.testing.assert_array_equal(large[:, 7], np.arange(1024) + 16)
