"""An engine for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.engine.driver import Driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.engine.close()
