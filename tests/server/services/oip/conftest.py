"""Real shared memory objects, and regions of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.server.services.oip.shared_memory import Regions

SHM = Path("/dev/shm")

Make = Callable[[bytes], Path]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes shared memory objects."""
    made: list[Path] = []

    def one(content: bytes) -> Path:
        path = SHM / f"headrace-test-{uuid.uuid4().hex}"
        made.append(path)
        path.write_bytes(content)
        return path

    yield one
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture
def regions() -> Iterator[Regions]:
    """Nothing stays open, whatever a test does."""
    before = descriptors()
    regions = Regions()
    yield regions
    regions.close()
    assert (len(regions), descriptors()) == (0, before)


def descriptors() -> int:
    """How many shared memory objects this process has open."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{SHM}/headrace-test-")
        except FileNotFoundError:
            continue  # that of the list itself
    return found
