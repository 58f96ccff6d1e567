"""What a decision costs does not depend on how many streams there are: counted in the core's own steps.

`python -m tests.server.core.decision_costs` prints the times.
"""

from __future__ import annotations

import pytest

from tests.line_counter import lines_run
from tests.server.core.decision_costs import SITUATIONS, Situation


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_decision_takes_as_many_steps_with_a_thousand_streams_as_with_ten(name: str) -> None:
    def counted(streams: int) -> int:
        situation = Situation(streams, **SITUATIONS[name])
        return lines_run(situation.turns)

    assert counted(1000) <= 1.1 * counted(10)


def test_models_that_do_not_share_the_processor_cost_nothing_for_it() -> None:
    """Without `Limits.processors` it makes no difference that a run computes on this processor."""
    here, elsewhere = Situation(10, batch=1, threads=1), Situation(10, batch=1, threads=0)
    assert lines_run(here.turns) == lines_run(elsewhere.turns)
