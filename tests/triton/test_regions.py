"""Registering shared memory: when it is allowed, and what is not a region."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from tests import models
from tests.e2e.serving import F32, Served
from tests.triton.messages import pair, refused

SIZE = 4096
WRONG = {
    "no such object": ("/headrace_test_nowhere", 0, 64, "NOT_FOUND"),
    "a path": ("/../etc/passwd", 0, 64, "INVALID_ARGUMENT"),
    "a deeper path": ("/headrace/test", 0, 64, "INVALID_ARGUMENT"),
    "no key": ("", 0, 64, "INVALID_ARGUMENT"),
    "two dots": ("/..", 0, 64, "INVALID_ARGUMENT"),
    "a key with NUL": ("/headrace\0test", 0, 64, "INVALID_ARGUMENT"),
    "a long key": ("/" + "k" * 5000, 0, 64, "INVALID_ARGUMENT"),
    "too many bytes": ("{key}", 0, SIZE + 1, "INVALID_ARGUMENT"),
    "an offset too far": ("{key}", SIZE - 63, 64, "INVALID_ARGUMENT"),
    "a sum over 64 bits": ("{key}", (1 << 64) - 1, 64, "INVALID_ARGUMENT"),
}


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("regions")
    with Served([str(models.add_multiply(folder)), "--shared-memory", F32], folder / "log") as served:
        yield served
        assert "Traceback" not in served.log


@pytest.fixture
def client(sharing: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(sharing.address) as client:
        yield client
        client.unregister_system_shared_memory()


@pytest.fixture
def key() -> Iterator[str]:
    """Of an object of `SIZE` bytes."""
    memory = SharedMemory(f"headrace_test_{os.getpid()}", create=True, size=SIZE)
    yield f"/{memory.name}"
    memory.close()
    memory.unlink()


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_a_region_is_refused(client: InferenceServerClient, key: str, wrong: str) -> None:
    given, offset, size, status = WRONG[wrong]
    with refused(status):
        client.register_system_shared_memory("region", given.format(key=key), size, offset)
    assert not client.get_system_shared_memory_status().regions


def test_a_link_is_not_a_region(client: InferenceServerClient, tmp_path: Path) -> None:
    """What lies outside shared memory is not reached from there."""
    private = tmp_path / "private"
    private.write_bytes(bytes(SIZE))
    link = Path("/dev/shm") / f"headrace_test_{os.getpid()}_link"
    link.symlink_to(private)
    try:
        with refused("INVALID_ARGUMENT"):
            client.register_system_shared_memory("region", f"/{link.name}", SIZE)
    finally:
        link.unlink()


def test_a_region_is_registered_under_one_name_once(client: InferenceServerClient, key: str) -> None:
    client.register_system_shared_memory("region", key, SIZE)
    with refused("FAILED_PRECONDITION", "'region'"):
        client.register_system_shared_memory("region", key, 64)
    client.register_system_shared_memory("other", key.removeprefix("/"), 64, 128)
    regions = client.get_system_shared_memory_status().regions
    assert {name: (each.offset, each.byte_size) for name, each in regions.items()} == {
        "region": (0, SIZE),
        "other": (128, 64),
    }
    client.unregister_system_shared_memory("region")
    client.unregister_system_shared_memory("region")  # what is not there is ignored
    client.register_system_shared_memory("region", key, 64)
    with refused("INVALID_ARGUMENT"):
        client.register_system_shared_memory("", key, SIZE)


def test_cuda_regions_are_not_supported(client: InferenceServerClient) -> None:
    with refused("UNIMPLEMENTED"):
        client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64)


def test_the_extension_is_listed(client: InferenceServerClient) -> None:
    assert "system_shared_memory" in client.get_server_metadata().extensions


def test_shared_memory_is_off_by_default(served: Served, key: str) -> None:
    with InferenceServerClient(served.address) as client:
        assert "system_shared_memory" not in client.get_server_metadata().extensions
        with refused("PERMISSION_DENIED", "--shared-memory"):
            client.register_system_shared_memory("region", key, SIZE)
        assert not client.get_system_shared_memory_status().regions
        with refused("PERMISSION_DENIED", "--shared-memory"):
            client.unregister_system_shared_memory()
        with refused("PERMISSION_DENIED", "--shared-memory"):
            client.infer("add_multiply", [InferInput("x", [1, 16], "FP32").set_shared_memory("region", 64), pair()[1]])
