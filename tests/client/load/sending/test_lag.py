"""A sender's lag by cause: it adds up, and what follows a wait is not the processor's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.record.samples import NO_WAITS, Waits
from headrace.client.load.sending.lag import Lag

SECONDS = st.floats(0, 10)
STEPS = st.lists(st.tuples(*[SECONDS] * 5), min_size=1, max_size=50)


@given(STEPS)
def test_the_parts_add_up_and_the_processors_is_the_lag_without_waits(
    steps: list[tuple[float, ...]],
) -> None:
    lag, due, begun, alone = Lag(), 0.0, 0.0, 0.0
    for gap, used, starved, window, connection in steps:
        due += gap
        begun = max(due, begun) + used + starved + window + connection
        alone = max(due, alone) + used
        waits = lag.begin(due, begun, Waits(window, connection), used)
        assert min(waits) >= 0
        assert begun - due - sum(waits) == pytest.approx(alone - due, abs=1e-6)


def test_requests_behind_a_wait_have_waited_for_the_same() -> None:
    """100/s; the second request waits 1 s for room, and sending takes 1 ms: the backlog shrinks by 9 ms each."""
    lag, begun = Lag(), 0.0
    for at in range(200):
        due = at / 100
        waited = 1.0 if at == 1 else 0.0
        begun = max(due, begun) + waited + 0.001
        waits = lag.begin(due, begun, Waits(window=waited), 0.001)
        assert waits.window == pytest.approx(max(1.0 - 0.009 * (at - 1), 0.0) if at else 0.0, abs=1e-3)
        assert begun - due - waits.window == pytest.approx(0.001)


def test_a_slow_sender_is_slow_whatever_else_it_waits_for() -> None:
    """100/s, but sending takes 20 ms, and once it waits for a connection for half a second."""
    lag, begun = Lag(), 0.0
    for at in range(100):
        due = at / 100
        waited = 0.5 if at == 50 else 0.0
        begun = max(due, begun) + waited + 0.02
        waits = lag.begin(due, begun, Waits(connection=waited), 0.02)
        assert begun - due - sum(waits) == pytest.approx(0.02 + at / 100)
        assert waits.connection == pytest.approx(0.5 if at >= 50 else 0.0)


def test_two_causes_share_the_lag_as_they_have_caused_it() -> None:
    lag = Lag()
    lag.begin(0.0, 0.4, Waits(0.1, 0.3), 0.0)
    waits = lag.begin(0.2, 0.4, NO_WAITS, 0.0)
    assert waits[:2] == pytest.approx((0.05, 0.15))
    assert lag.begin(1.0, 1.0, NO_WAITS, 0.0)[:2] == (0, 0)


def test_what_took_longer_than_the_processor_was_used_was_a_wait_for_one() -> None:
    """100/s; once the sender is 50 ms late, and has used the processor for 10 ms of them: others had it."""
    lag = Lag()
    waits = lag.begin(1.0, 1.05, NO_WAITS, 0.01)
    assert tuple(waits) == pytest.approx((0, 0, 0, 0.04))
    # The next one is late because of it; it uses more than it takes, as other threads of the client do.
    waits = lag.begin(1.01, 1.051, NO_WAITS, 0.002)
    assert tuple(waits) == pytest.approx((0, 0, 0, 0.04))
    assert lag.begin(1.1, 1.101, NO_WAITS, 0.001) == NO_WAITS
