"""Values that pure Python takes for what is declared, and that compiled code checks: they work in both."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

import headrace.client as hc
from headrace.wire.errors import NotFound
from tests import models
from tests.e2e.serving import Served

X = np.arange(16, dtype=np.float32).reshape(1, 16)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("values")
    with Served([f"am={models.add_multiply(folder)}"], folder / "log") as served:
        yield served


@pytest.fixture
async def stream(served: Served) -> AsyncIterator[hc.Stream]:
    async with hc.connect(served.address) as server, server.stream() as stream:
        yield stream


@pytest.mark.parametrize("timeout", [30, np.int64(30), np.float32(30), np.float64(30)])
async def test_numbers_of_numpy_are_timeouts(stream: hc.Stream, timeout: float) -> None:
    ticket = await stream.submit("am", {"x": X, "y": X}, timeout=timeout)
    np.testing.assert_array_equal((await ticket)["sum"], X + X)


@pytest.mark.parametrize("priority", [np.int64(1), np.uint8(1)])
async def test_numbers_of_numpy_are_priorities(stream: hc.Stream, priority: int) -> None:
    ticket = await stream.submit("am", {"x": X, "y": X}, priority=priority)
    np.testing.assert_array_equal((await ticket)["sum"], X + X)


async def test_numbers_of_numpy_are_versions(stream: hc.Stream) -> None:
    version: Any = np.int64(1)
    ticket = await stream.submit("am", {"x": X, "y": X}, version=version)
    np.testing.assert_array_equal((await ticket)["sum"], X + X)


async def test_numbers_of_numpy_are_sizes_and_bounds(stream: hc.Stream) -> None:
    rows: Any = np.int64(1)
    columns: Any = np.int32(16)
    ticket = await stream.submit("am", {"x": X, "y": hc.zeros((rows, columns))}, keep=["sum"])
    part = ticket["sum"][: np.int64(1), np.int16(0) : columns]
    after = await stream.submit("am", {"x": part, "y": X})
    np.testing.assert_array_equal((await after)["sum"], X + X)
    np.testing.assert_array_equal(await ticket.fetch("sum", np.s_[:, np.int64(1) : np.int64(3)]), X[:, 1:3])


async def test_what_programs_get_can_be_copied_and_sent_to_other_processes(stream: hc.Stream) -> None:
    ticket = await stream.submit("am", {"x": X, "y": X}, keep=["sum"])
    await ticket
    reference = ticket["sum"]
    assert copy.copy(reference).tag == ticket.tag
    assert stream.hello == pickle.loads(pickle.dumps(stream.hello))
    assert hc.zeros((2, 3)) == copy.deepcopy(hc.zeros((2, 3)))
    copied = pickle.loads(pickle.dumps(NotFound("gone")))
    assert (type(copied), str(copied)) == (NotFound, "gone")


def test_errors_can_be_subclassed_and_take_notes() -> None:
    class Mine(hc.NotFound):
        """Of a program."""

    error = Mine("gone")
    error.add_note("while it looked")
    assert (error.code, error.__notes__) == (hc.NotFound.code, ["while it looked"])
