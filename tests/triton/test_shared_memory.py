"""System shared memory: inputs and outputs that lie in regions of the client, and never cross the wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import shared_memory as shm

from tests import models
from tests.e2e.serving import F32, Served
from tests.triton.messages import ONES, Array, X, pair, refused

SIZE = 1 << 16
ROW = 64
"""Bytes of an input or output of `add_multiply`."""

Region = Callable[[str], shm.SharedMemoryRegion]


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("sharing")
    paths = [models.add_multiply(folder), models.strings(folder), models.wide(folder)]
    with Served([*map(str, paths), "--shared-memory", F32], folder / "log") as served:
        yield served
        assert "Traceback" not in served.log


@pytest.fixture
def client(sharing: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(sharing.address) as client:
        yield client
        client.unregister_system_shared_memory()


@pytest.fixture
def region(client: InferenceServerClient) -> Iterator[Region]:
    """`region("in")`: made, and registered under its name."""
    made = []

    def make(name: str) -> shm.SharedMemoryRegion:
        key = f"headrace_test_{os.getpid()}_{name}"
        made.append(shm.create_shared_memory_region(name, key, SIZE, create_only=True))
        client.register_system_shared_memory(name, f"/{key}", SIZE)
        return made[-1]

    yield make
    for each in made:
        shm.destroy_shared_memory_region(each)


def read(region: shm.SharedMemoryRegion, offset: int = 0) -> Array:
    """A copy: what looks into the region keeps it from being closed."""
    return np.array(shm.get_contents_as_numpy(region, np.float32, [1, 16], offset))


def shared_inputs(name: str, y_offset: int = ROW) -> list[InferInput]:
    return [
        InferInput("x", [1, 16], "FP32").set_shared_memory(name, ROW),
        InferInput("y", [1, 16], "FP32").set_shared_memory(name, ROW, y_offset),
    ]


def shared_output(output: str, name: str, size: int = ROW, offset: int = 0) -> InferRequestedOutput:
    wanted = InferRequestedOutput(output)
    wanted.set_shared_memory(name, size, offset)
    return wanted


def test_inputs_and_outputs_may_be_in_shared_memory(client: InferenceServerClient, region: Region) -> None:
    source, sink = region("in"), region("out")
    outputs = [shared_output("product", "out", SIZE - 4 * ROW, 4 * ROW), InferRequestedOutput("sum")]
    for factor in (1, 2, 3):
        shm.set_shared_memory_region(source, [X, factor * ONES])
        result = client.infer("add_multiply", shared_inputs("in"), outputs=outputs)
        np.testing.assert_array_equal(read(sink, 4 * ROW), X * factor)
        np.testing.assert_array_equal(result.as_numpy("sum"), X + factor)
        product = result.get_output("product")
        assert list(product.shape) == [1, 16]
        assert product.parameters["shared_memory_region"].string_param == "out"
        assert product.parameters["shared_memory_offset"].int64_param == 4 * ROW
        assert product.parameters["shared_memory_byte_size"].int64_param == ROW
        assert [len(raw) for raw in result.get_response().raw_output_contents] == [0, ROW]


def test_one_input_may_be_in_shared_memory_and_one_inline(client: InferenceServerClient, region: Region) -> None:
    shm.set_shared_memory_region(region("in"), [X])
    inputs = [shared_inputs("in")[0], pair(X, 5 * ONES)[1]]
    for given in (inputs, inputs[::-1]):
        np.testing.assert_array_equal(client.infer("add_multiply", given).as_numpy("sum"), X + 5)


def test_streams_may_use_shared_memory(client: InferenceServerClient, region: Region) -> None:
    source, sink = region("in"), region("out")
    shm.set_shared_memory_region(source, [X, ONES])
    answers: list[object] = []
    client.start_stream(lambda result, error: answers.append(error or result.get_response().id))
    for number in range(50):
        output = shared_output("sum", "out", offset=number * ROW)
        client.async_stream_infer("add_multiply", shared_inputs("in"), outputs=[output], request_id=str(number))
    client.stop_stream()
    assert answers == [str(number) for number in range(50)]
    for number in range(50):
        np.testing.assert_array_equal(read(sink, number * ROW), X + 1)


def test_registered_regions_are_shown(client: InferenceServerClient, region: Region) -> None:
    assert not client.get_system_shared_memory_status().regions
    region("in"), region("out")
    regions = client.get_system_shared_memory_status().regions
    assert {name: (each.name, each.offset, each.byte_size) for name, each in regions.items()} == {
        name: (name, 0, SIZE) for name in ("in", "out")
    }
    assert regions["in"].key.endswith("_in")
    assert list(client.get_system_shared_memory_status("out").regions) == ["out"]
    client.unregister_system_shared_memory("in")
    assert list(client.get_system_shared_memory_status().regions) == ["out"]
    with refused("NOT_FOUND", "'in'"):
        client.get_system_shared_memory_status("in")
    client.unregister_system_shared_memory()
    assert not client.get_system_shared_memory_status().regions


def test_outputs_that_do_not_fit_their_region_fail(client: InferenceServerClient, region: Region) -> None:
    sink = region("out")
    shm.set_shared_memory_region(sink, [np.full(SIZE // 4, 7, np.float32)])
    with refused("INVALID_ARGUMENT", "'sum'"):
        client.infer("add_multiply", pair(), outputs=[shared_output("sum", "out", ROW - 1)])
    with refused("INVALID_ARGUMENT", "'out'"):
        client.infer("add_multiply", pair(), outputs=[shared_output("sum", "out", ROW, SIZE - ROW + 1)])
    with refused("INVALID_ARGUMENT", "'large'"):
        client.infer("wide", [pair()[0]], outputs=[shared_output("large", "out", SIZE)])
    assert (np.array(shm.get_contents_as_numpy(sink, np.float32, [SIZE // 4])) == 7).all()
    client.infer("add_multiply", pair(), outputs=[shared_output("sum", "out", ROW, SIZE - ROW)])
    np.testing.assert_array_equal(read(sink, SIZE - ROW), X + 1)


def test_inputs_that_are_not_in_their_region_fail(client: InferenceServerClient, region: Region) -> None:
    region("in")
    wrong = {
        "'nowhere'": shared_inputs("nowhere"),
        "'in'": shared_inputs("in", SIZE - ROW + 1),
        "'y'": [pair()[0], InferInput("y", [1, 16], "FP32").set_shared_memory("in", ROW - 4)],
        "'x'": [InferInput("x", [1, 16], "FP32").set_shared_memory("in", ROW + 4), pair()[1]],
    }
    for named, inputs in wrong.items():
        with refused("NOT_FOUND" if named == "'nowhere'" else "INVALID_ARGUMENT", named):
            client.infer("add_multiply", inputs)
    with refused("NOT_FOUND", "'nowhere'"):
        client.infer("add_multiply", pair(), outputs=[shared_output("sum", "nowhere")])


def test_a_region_that_shrinks_fails_its_requests(client: InferenceServerClient, region: Region) -> None:
    shm.set_shared_memory_region(region("in"), [X, ONES])
    region("out")
    client.infer("add_multiply", shared_inputs("in"), outputs=[shared_output("sum", "out")])
    for name in ("in", "out"):
        os.truncate(Path("/dev/shm") / f"headrace_test_{os.getpid()}_{name}", 0)
        with refused("FAILED_PRECONDITION", f"'{name}'"):
            if name == "in":
                client.infer("add_multiply", shared_inputs("in"))
            else:
                client.infer("add_multiply", pair(), outputs=[shared_output("sum", "out")])
    assert client.is_server_live()
    np.testing.assert_array_equal(client.infer("add_multiply", pair()).as_numpy("sum"), X + 1)
