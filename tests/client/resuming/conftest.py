"""A stream that is connected to its first server."""

from __future__ import annotations

import pytest

from tests.client.resuming.house import House


@pytest.fixture
def house() -> House:
    house = House()
    house.connect()
    return house
