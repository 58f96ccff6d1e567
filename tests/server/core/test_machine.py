"""The state machine, briefly. HEADRACE_EXAMPLES and HEADRACE_STEPS make it run longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.server.core.machine import CoreMachine

TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=int(os.environ.get("HEADRACE_EXAMPLES", "100")),
    stateful_step_count=int(os.environ.get("HEADRACE_STEPS", "40")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
