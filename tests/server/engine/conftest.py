"""An engine for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openvino as ov
import pytest

from headrace.server.engine import batching
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


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy: measure a size again until it pays, check for as long as that takes."""
    monkeypatch.setattr(batching, "TRIALS", 50)
    for name in ("FIRST", "MEASURING", "CHECKING", "CHECKING_WANTED"):
        monkeypatch.setattr(batching, name, 40.0)
