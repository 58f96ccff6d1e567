"""A share of what `make soak` does: see soak.py."""

from __future__ import annotations

import pytest

from tests.e2e.serving import Served
from tests.interop.inferences import Bystander
from tests.interop.soak import soak

pytestmark = pytest.mark.transport

CALLS = 10_000


def test_nothing_is_left_of_calls_that_end_in_every_way(shared: Served, bystander: Bystander) -> None:
    soak(shared, CALLS).check()
