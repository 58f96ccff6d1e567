"""Servers for the end-to-end tests: one that many share, and others with options of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.live import Live
from tests.e2e.serving import Served

F32 = "--property=INFERENCE_PRECISION_HINT=f32"

Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve("name=path", "--window=8", ...)`: a running server, stopped after the test. Numbers are f32."""
    numbers = count()
    with ExitStack() as stack:

        def start(*arguments: str, env: dict[str, str] | None = None) -> Served:
            log = tmp_path / f"server-{next(numbers)}.log"
            return stack.enter_context(Served([*arguments, F32], log, env))

        yield start


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.fixture
def live(serve: Serve) -> Iterator[Callable[..., Live]]:
    houses: list[Live] = []

    def start(*arguments: str) -> Live:
        houses.append(Live(serve(*arguments)))
        return houses[-1]

    yield start
    for house in houses:
        house.close()
