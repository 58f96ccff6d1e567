"""An engine for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openvino as ov
import pytest

from tests import models
from tests.server.engine.bench import Bench, Kind
from tests.server.engine.driver import Driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.engine.close()


@pytest.fixture(params=["async", "direct"])
def run(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def bench(driver: Driver, tmp_path: Path, run: Kind) -> Bench:
    """With `add_multiply`."""
    return Bench(driver, run, models.add_multiply(tmp_path))


@pytest.fixture(scope="module")
def core() -> ov.Core:
    return ov.Core()
