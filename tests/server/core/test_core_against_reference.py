"""Whatever happens, in any order, the core agrees with the reference model.

HEADRACE_EXAMPLES, HEADRACE_STEPS and HEADRACE_WALKS make it longer.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, settings

from tests.server.core.reference.moves import bounds
from tests.server.core.reference.random_walk import walk
from tests.server.core.reference.state_machine import CoreMachine

WALKS = int(os.environ.get("HEADRACE_WALKS", "100"))
STEPS = int(os.environ.get("HEADRACE_STEPS", "40"))

TestCoreAgainstReference = CoreMachine.TestCase
TestCoreAgainstReference.settings = settings(
    max_examples=int(os.environ.get("HEADRACE_EXAMPLES", "60")),
    stateful_step_count=STEPS,
    report_multiple_bugs=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_random_walk_agrees_with_the_reference_model(seed: int) -> None:
    """The seed alone determines the walk."""
    random = Random(seed)
    with bounds(eager=random.random() < 0.5):
        walk(random, 5 * STEPS)
