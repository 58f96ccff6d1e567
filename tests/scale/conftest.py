"""Servers of several processes. The fixtures of tests/e2e come with stubs that do not go with those of tritonclient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Serve, serving


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve("name=path", "--workers=2", ...)`: a running server, stopped after the test. Numbers are f32."""
    with serving(tmp_path) as serve:
        yield serve


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder
