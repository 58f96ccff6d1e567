"""One server for all tests that leave it as it was, and a client of each library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.e2e.serving import F32, Serve, Served, serving
from tests.interop.inferences import Bystander
from tests.interop.remote import LIBRARIES, Library, Remote

GROWTH_BYTES = 32 << 20
"""What an attack may leave in the allocator's hands."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`scale` (quick, of any length), `slow` (a tenth of a second) and `wide` (4 MiB); messages of 4 MiB at most."""
    folder = tmp_path_factory.mktemp("interop")
    paths = [models.scale(folder), models.slow(folder, steps=8), models.wide(folder)]
    with Served([*map(str, paths), "--max-message-bytes=4MiB", F32], folder / "log") as server:
        yield server
        assert server.stop() == 0
        for wrong in ("Traceback", " ERROR ", "Exception"):
            assert wrong not in server.log, server.log


@pytest.fixture
def bystander(shared: Served) -> Iterator[Bystander]:
    """Asserts before and after the test that the server serves, and that nobody holds anything."""
    bystander = Bystander(shared.address)
    with bystander.channel:
        bystander.is_served()
        bystander.until_idle()
        yield bystander
        bystander.is_served()
        bystander.until_idle()


@pytest.fixture(scope="module", params=LIBRARIES)
def used(request: pytest.FixtureRequest) -> Library:
    return Library.named(request.param)


@pytest.fixture(scope="module")
def connection(shared: Served, used: Library) -> Iterator[Remote]:
    """One connection for the tests of a module: each leaves it usable."""
    with used.connect(shared.address) as remote:
        yield remote


@pytest.fixture
def client(connection: Remote, bystander: Bystander) -> Remote:
    return connection


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(path, "--grace=9", ...)`: a running server, stopped after the test."""
    with serving(tmp_path) as serve:
        yield serve


@pytest.fixture
def unharmed(shared: Served, bystander: Bystander) -> Iterator[Bystander]:
    """The test attacks the server; afterwards another client is served at once, and memory has not grown.

    What was taken is given back: `bystander` asserts that.
    """
    before = shared.resident_bytes()
    yield bystander
    assert min(bystander.is_served() for _ in range(3)) < 1
    bystander.until_idle()
    bystander.until(lambda _: shared.resident_bytes() - before < GROWTH_BYTES)
