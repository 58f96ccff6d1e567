"""What a decision costs does not depend on how many streams there are: counted in the core's own steps.

`python -m tests.server.core.decision_costs` prints the times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from tests.server.core.decision_costs import SITUATIONS, Situation


def steps(work: Callable[[], None]) -> int:
    """How many lines of Python some work takes: comprehensions and loops count for each item."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_decision_takes_as_many_steps_with_a_thousand_streams_as_with_ten(name: str) -> None:
    def counted(streams: int) -> int:
        situation = Situation(streams, **SITUATIONS[name])
        return steps(situation.turns)

    assert counted(1000) <= 1.1 * counted(10)


def test_models_that_do_not_share_the_processor_cost_nothing_for_it() -> None:
    """Without `Limits.processors` it makes no difference that a run computes on this processor."""
    here, elsewhere = Situation(10, batch=1, threads=1), Situation(10, batch=1, threads=0)
    assert steps(here.turns) == steps(elsewhere.turns)
