"""A client's bound for the time until the run of a ticket starts."""

from __future__ import annotations

import pytest

from headrace.server.core.limits import Limits
from tests.server.core.scenario import Scenario
from tests.server.core.test_queue_bounds import statistics


def test_a_ticket_that_waits_too_long_ends_and_one_that_runs_does_not() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, queue_timeout=1)
    client.infer(2, queue_timeout=1)
    assert world.starts() == [1]
    world.now += 0.99
    assert world.starts() == []
    world.now += 0.01
    assert world.starts() == []
    assert client.receives() == ["failed 2 DEADLINE_EXCEEDED"]
    assert client.errors[2].message == "ticket 2 had not started 1.000000 s after it arrived"
    world.now += 60
    assert world.stopping == []
    world.end(1)
    assert client.receives() == ["done 1"]
    assert world.settled().wake_at == float("inf")


def test_the_time_until_a_source_has_ended_counts() -> None:
    world = Scenario(slots=2)
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y", queue_timeout=1)
    assert world.starts() == [1]
    world.now += 1
    assert world.starts() == []
    assert client.receives() == ["failed 2 DEADLINE_EXCEEDED"]


def test_the_timeout_of_a_ticket_counts_after_its_start_too() -> None:
    world = Scenario(slots=2)
    client = world.client()
    client.infer(1, queue_timeout=1, timeout=2)
    assert world.starts() == [1]
    world.now += 2
    assert world.starts() == []
    assert client.receives() == ["failed 1 DEADLINE_EXCEEDED"]
    assert "had not ended" in client.errors[1].message
    assert world.stopping == [1]


def test_the_shorter_timeout_counts() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    client.infer(2, queue_timeout=5, timeout=1)
    assert world.starts() == [1]
    world.now += 1
    world.settled()
    assert client.receives() == ["failed 2 DEADLINE_EXCEEDED"]
    assert "had not ended 1.0" in client.errors[2].message


@pytest.mark.parametrize(("own", "code"), [(0.5, "DEADLINE_EXCEEDED"), (2.0, "RESOURCE_EXHAUSTED")])
def test_the_bound_of_the_model_counts_if_it_is_shorter(own: float, code: str) -> None:
    world = Scenario(limits=Limits(max_queue_seconds=1))
    client = world.client()
    client.infer(1)
    client.infer(2, queue_timeout=own)
    assert world.starts() == [1]
    world.now += min(own, 1)
    world.settled()
    assert client.receives() == [f"failed 2 {code}"]
    assert statistics(world).overdue == (own > 1)
    client.infer(3, queue_timeout=own, timeout=10)
    world.end(1)
    assert world.starts() == [3]
    world.now += 9.9
    world.settled()
    assert client.receives() == ["done 1"]
    world.now += 0.1
    world.settled()
    assert client.receives() == ["failed 3 DEADLINE_EXCEEDED"]
