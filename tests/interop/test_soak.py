"""A share of `make test-transport`: see soak.py."""

from __future__ import annotations

import os

import pytest

from tests.e2e.serving import Served
from tests.interop.inferences import Bystander
from tests.interop.soak import soak

pytestmark = pytest.mark.transport

CALLS = int(os.environ.get("HEADRACE_TEST_CALLS", "10000"))


@pytest.mark.timeout(60 + CALLS // 200)
def test_nothing_is_left_of_calls_that_end_in_every_way(shared: Served, bystander: Bystander) -> None:
    print(soak(shared, CALLS))
