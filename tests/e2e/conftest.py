"""Servers for the end-to-end tests: one that many share, and others with options of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.live import Live
from tests.e2e.serving import Serve, serving


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve("name=path", "--window=8", ...)`: a running server, stopped after the test. Numbers are f32."""
    with serving(tmp_path) as serve:
        yield serve


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
