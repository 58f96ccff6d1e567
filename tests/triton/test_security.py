"""tritonclient over TLS, with tokens: both of its clients, and the names of regions, which belong to an identity."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as aio
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from headrace.server.security.scopes import Scope
from tests import models
from tests.e2e.authority import Authority
from tests.e2e.people import People
from tests.e2e.serving import F32, Served

ALL = tuple(Scope)


class Secure:
    """A server with mutual TLS and tokens."""

    def __init__(self, served: Served, authority: Authority, people: People) -> None:
        self.address, self.people = served.address, people
        certificate, key = authority.issue("triton", "client.example")
        self.tls: dict[str, Any] = {
            "ssl": True,
            "root_certificates": str(authority.file),
            "private_key": str(key),
            "certificate_chain": str(certificate),
        }

    def headers(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.people.tokens[name]}"}


@pytest.fixture(scope="module", params=["aio", "completion-queue"])
def secure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    authority, people = Authority(folder / "ca"), People(folder / "identities.toml")
    for name in ("alice", "bob"):
        people.add(name, *ALL)
    people.add("camera", Scope.INFER)
    options = [
        *authority.options("server", "127.0.0.1"),
        f"--tls-ca={authority.file}",
        f"--identities={people.file}",
        f"--transport={request.param}",
        "--shared-memory",
    ]
    with Served([str(models.scale(folder)), *options, F32], folder / "log") as served:
        yield Secure(served, authority, people)
        assert served.stop() == 0
        assert " ERROR " not in served.log


@pytest.fixture
def client(secure: Secure) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(secure.address, **secure.tls) as client:
        yield client


def ones() -> list[InferInput]:
    given = InferInput("x", [1], "FP32")
    given.set_data_from_numpy(np.ones(1, np.float32))
    return [given]


def test_requests_and_streams_go_through(secure: Secure, client: InferenceServerClient) -> None:
    headers = secure.headers("camera")
    assert client.is_server_ready()
    assert client.infer("scale", ones(), headers=headers).as_numpy("y").tolist() == [3]
    answers: list[Any] = []
    client.start_stream(lambda result, error: answers.append((result, error)), headers=headers)
    for _ in range(3):
        client.async_stream_infer("scale", ones())
    client.stop_stream()
    assert [(result.as_numpy("y").tolist(), error) for result, error in answers] == [([3], None)] * 3


async def test_the_asynchronous_client_goes_through(secure: Secure) -> None:
    async with aio.InferenceServerClient(secure.address, **secure.tls) as client:
        result = await client.infer("scale", ones(), headers=secure.headers("camera"))
        assert result.as_numpy("y").tolist() == [3]


def test_what_is_missing_is_told(secure: Secure, client: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="wants a token"):
        client.infer("scale", ones())
    with pytest.raises(InferenceServerException, match="'camera' may not call ModelMetadata"):
        client.get_model_metadata("scale", headers=secure.headers("camera"))
    plain = {**secure.tls, "private_key": None, "certificate_chain": None}
    with InferenceServerClient(secure.address, **plain) as stranger, pytest.raises(InferenceServerException):
        stranger.infer("scale", ones(), headers=secure.headers("alice"), client_timeout=5)


def number_in(memory: SharedMemory) -> float:
    assert memory.buf is not None
    return float(np.frombuffer(bytes(memory.buf[:4]), np.float32)[0])


def test_each_identity_has_regions_of_its_own(secure: Secure, client: InferenceServerClient) -> None:
    """Both call theirs `out`, and each finds its own answer there, over the same connection."""
    objects = {name: SharedMemory(create=True, size=64) for name in ("alice", "bob")}
    try:
        for name, memory in objects.items():
            client.register_system_shared_memory("out", f"/{memory.name}", 64, headers=secure.headers(name))
        for value, name in enumerate(objects, 1):
            given = InferInput("x", [1], "FP32")
            given.set_data_from_numpy(np.full(1, value, np.float32))
            wanted = InferRequestedOutput("y")
            wanted.set_shared_memory("out", 4)
            client.infer("scale", [given], outputs=[wanted], headers=secure.headers(name))
        assert [number_in(memory) for memory in objects.values()] == [3, 5]
        with pytest.raises(InferenceServerException, match="there is no shared memory region 'out'"):
            client.infer("scale", ones(), outputs=[wanted], headers=secure.headers("camera"))
        client.unregister_system_shared_memory(headers=secure.headers("alice"))
        left = client.get_system_shared_memory_status(headers=secure.headers("bob")).regions
        assert list(left) == ["out"]
        assert not client.get_system_shared_memory_status(headers=secure.headers("alice")).regions
    finally:
        for memory in objects.values():
            memory.close()
            memory.unlink()
