"""Where a cgroup limits the time of processors, as in a container, models get as many threads as that is worth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import headrace.client.blocking as hc
from headrace.server.processors import scheduled_processors
from tests import models
from tests.e2e.serving import Serve

CPU = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def limited() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """`with limited():` what this thread starts inside is in a cgroup that may use the time of one processor."""
    thread = str(threading.get_native_id())
    folder = CPU / f"headrace-test-{thread}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"there is no cgroup of version 1 that may be changed: {error}")

    @contextmanager
    def inside() -> Iterator[None]:
        (folder / "tasks").write_text(thread)
        try:
            yield
        finally:
            (CPU / "tasks").write_text(thread)

    (folder / "cpu.cfs_quota_us").write_text((folder / "cpu.cfs_period_us").read_text())
    yield inside
    folder.rmdir()


@pytest.mark.skipif(scheduled_processors() < 2, reason="one processor is no limit")
def test_a_limit_of_time_is_a_limit_of_threads(
    limited: Callable[[], AbstractContextManager[None]], serve: Serve, tmp_path: Path
) -> None:
    arguments = ("--run=async", f"m={models.static_add_multiply(tmp_path)}")
    everywhere = serve(*arguments)
    with limited():
        less = serve(*arguments)
        told = serve(*arguments, "--property=INFERENCE_NUM_THREADS=2")

    def threads(address: str) -> int:
        with hc.connect(address) as server:
            (model,) = server.models()
            return model.threads * model.streams

    assert threads(everywhere.address) == scheduled_processors()
    assert threads(less.address) == 1
    assert threads(told.address) == 2, "what the operator says comes first"
