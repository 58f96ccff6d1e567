"""A region whose name changes hands during a run: the answer goes to the client that asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from tests import models
from tests.e2e.serving import F32, Served
from tests.triton.messages import given, refused
from tests.triton.streams import CallbackStream

SIZE = 4096
ANSWER = 2.0
"""`slow` returns its input."""


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("owners")
    with Served([str(models.slow(folder)), "--shared-memory", F32], folder / "log") as served:
        yield served
        assert "Traceback" not in served.log


@pytest.fixture
def alice(sharing: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(sharing.address) as client:
        yield client
        client.unregister_system_shared_memory()


@pytest.fixture
def bob(sharing: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(sharing.address) as client:
        yield client


class Object:
    """A shared memory object of a client."""

    def __init__(self, owner: str) -> None:
        self._memory = SharedMemory(f"headrace_test_{os.getpid()}_{owner}", create=True, size=SIZE)
        self.key = f"/{self._memory.name}"

    def floats(self) -> list[float]:
        """The elements that are not zero."""
        assert self._memory.buf is not None
        values = np.array(np.frombuffer(self._memory.buf, np.float32))
        return [float(value) for value in values if value]

    def close(self) -> None:
        self._memory.close()
        self._memory.unlink()


@pytest.fixture
def objects() -> Iterator[tuple[Object, Object]]:
    """That of Alice, and that of Bob."""
    both = Object("alice"), Object("bob")
    yield both
    for each in both:
        each.close()


def x() -> list[InferInput]:
    return [given("x", np.full(1, ANSWER, np.float32))]


def to_out(offset: int = 0) -> list[InferRequestedOutput]:
    output = InferRequestedOutput("y")
    output.set_shared_memory("out", 4, offset)
    return [output]


def open_objects(served: Served) -> list[str]:
    """The keys of the shared memory objects that the server has open."""
    found: list[str] = []
    for descriptor in Path(f"/proc/{served.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(os.readlink(descriptor).removeprefix("/dev/shm"))
    return [each for each in found if each.startswith("/headrace_test")]


def descriptors(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))


def until(client: InferenceServerClient, holds: Callable[[], bool]) -> None:
    """Ask the server for something else until this holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < 20
        assert client.is_server_live()


def late(client: InferenceServerClient) -> int:
    """How many requests of `slow` have had no result."""
    return int(client.get_inference_statistics("slow").model_stats[0].inference_stats.fail.count)


def test_an_answer_goes_to_the_first_owner_of_a_region(
    sharing: Served, alice: InferenceServerClient, bob: InferenceServerClient, objects: tuple[Object, Object]
) -> None:
    hers, his = objects
    assert bob.is_server_live()
    failed, before = late(alice), descriptors(sharing)
    alice.register_system_shared_memory("out", hers.key, SIZE)
    with CallbackStream(alice) as stream:
        for number in range(4):
            stream.send("slow", x(), outputs=to_out(64 * number))
        # Its time is over at once, so that it tells when those before it have been read.
        stream.send("slow", x(), outputs=to_out(256), timeout=1)
        until(bob, lambda: late(bob) > failed)
        bob.unregister_system_shared_memory("out")
        bob.register_system_shared_memory("out", his.key, SIZE)
        assert sorted(open_objects(sharing)) == [hers.key, his.key]
        assert stream.unread() < 4
        for number in range(4):
            output = stream.result().get_output("y")
            assert output.parameters["shared_memory_offset"].int64_param == 64 * number
        assert "had not started" in stream.error().message()
    assert hers.floats() == [ANSWER] * 4
    assert his.floats() == []
    assert open_objects(sharing) == [his.key]
    bob.infer("slow", x(), outputs=to_out())
    assert hers.floats() == [ANSWER] * 4
    assert his.floats() == [ANSWER]
    bob.unregister_system_shared_memory()
    until(bob, lambda: descriptors(sharing) <= before)


def test_a_client_that_vanishes_leaves_no_region_open(
    sharing: Served, alice: InferenceServerClient, bob: InferenceServerClient, objects: tuple[Object, Object]
) -> None:
    hers, _ = objects
    assert bob.is_server_live()
    failed, before = late(alice), descriptors(sharing)
    alice.register_system_shared_memory("out", hers.key, SIZE)
    stream = CallbackStream(alice)
    for number in range(20):
        stream.send("slow", x(), outputs=to_out(4 * number))
    stream.send("slow", x(), outputs=to_out(), timeout=1)
    until(bob, lambda: late(bob) > failed)
    bob.unregister_system_shared_memory("out")
    assert open_objects(sharing) == [hers.key]
    alice.stop_stream(cancel_requests=True)
    until(bob, lambda: not open_objects(sharing))
    until(bob, lambda: descriptors(sharing) <= before)
    assert len(hers.floats()) < 20


def test_a_client_that_waits_no_longer_leaves_no_region_open(
    sharing: Served, alice: InferenceServerClient, objects: tuple[Object, Object]
) -> None:
    hers, _ = objects
    assert alice.is_server_live()
    before = descriptors(sharing)
    alice.register_system_shared_memory("out", hers.key, SIZE)
    with refused("DEADLINE_EXCEEDED"):
        alice.infer("slow", x(), outputs=to_out(), client_timeout=0.02)
    with refused("DEADLINE_EXCEEDED"):
        alice.infer("slow", x(), outputs=to_out(), timeout=1)
    with refused("NOT_FOUND", "'nowhere'"):
        alice.infer("slow", x(), outputs=[*to_out(), InferRequestedOutput("nowhere")])
    alice.unregister_system_shared_memory("out")
    until(alice, lambda: descriptors(sharing) <= before)
    assert hers.floats() == []
