"""Real shared memory objects, and a registry of their regions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.server.services.oip.region_registry import OwnedRegions, RegionRegistry
from tests.server.services.oip.shared_memory_objects import DIRECTORY, PREFIX, MakeObject, open_descriptors


@pytest.fixture
def make_object() -> Iterator[MakeObject]:
    """Makes shared memory objects, and removes them after the test."""
    paths: list[Path] = []

    def make(content: bytes) -> Path:
        path = DIRECTORY / f"{PREFIX}{uuid.uuid4().hex}"
        paths.append(path)
        path.write_bytes(content)
        return path

    yield make
    for path in paths:
        path.unlink(missing_ok=True)


@pytest.fixture
def owned() -> Iterator[OwnedRegions]:
    """Registries that, once closed, leave no descriptor open, whatever a test does."""
    before = open_descriptors()
    owned = OwnedRegions()
    yield owned
    owned.close()
    assert (len(owned.of(None)), open_descriptors()) == (0, before)


@pytest.fixture
def regions(owned: OwnedRegions) -> RegionRegistry:
    """That of everybody who has no identity."""
    return owned.of(None)
