"""More arrives than a model can do, by a virtual clock: what is done, what is refused, and what never runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.server.core.limits import Limits
from headrace.server.core.state import Ticket
from tests.server.core.model_specs import step
from tests.server.core.scenario import Client, Scenario

RUN = 0.01
"""Seconds that a run takes on average."""


@dataclass
class Overload:
    """Clients that send at random, whatever becomes of it, and runs that take more or less long."""

    random: Random
    slots: int
    limits: Limits
    done: int = 0
    ends: dict[int, str] = field(default_factory=dict)
    sent: dict[int, list[int]] = field(default_factory=dict)
    """By priority."""
    waits: list[float] = field(default_factory=list)
    """Of those that started."""

    def __post_init__(self) -> None:
        self.world = Scenario(step(self.slots), limits=self.limits)
        self.world.now = 0.0
        self.clients = [self.world.client(f"client {number % 3}") for number in range(5)]
        self._events: list[tuple[float, int, int]] = []
        """Times, and the tags of the runs that end or 0."""
        self._order = 0

    def run(self, arrivals: int, rate: float, timeouts: tuple[float, ...], priorities: tuple[int, ...]) -> None:
        """So many tickets a second, and then until all have ended."""
        random, world = self.random, self.world
        next_arrival, sent = random.expovariate(rate), 0
        while sent < arrivals or self._events:
            ends_at = self._events[0][0] if self._events else math.inf
            if sent < arrivals and next_arrival <= ends_at:
                world.now, sent = next_arrival, sent + 1
                client = random.choice(self.clients)
                priority = random.choice(priorities)
                self.sent.setdefault(priority, []).append(sent)
                client.infer(sent, timeout=random.choice(timeouts), priority=priority)
                next_arrival += random.expovariate(rate)
            else:
                world.now, _, tag = heappop(self._events)
                if tag in world.running:
                    world.end(tag)
            self._decide()
        assert sorted(self.ends) == [*range(1, arrivals + 1)], "every ticket has ended"
        model = world.core.models.find("step")
        assert model.waiting == model.queued == 0

    def _decide(self) -> None:
        world, model = self.world, self.world.core.models.find("step")
        decision = world.decide()
        for run in decision.starts:
            (ticket,) = run.parts
            assert isinstance(ticket, Ticket)
            waited = world.now - ticket.ready
            assert ticket.due is None or ticket.due > world.now, "its time is over"
            assert not self.limits.max_queue_seconds or waited < self.limits.max_queue_seconds
            self.waits.append(waited)
            self._at(world.now + self.random.uniform(0.5, 1.5) * RUN, ticket.tag)
        assert not (model.queued and model.has_free_slot), "a slot is free although a ticket waits"
        most = self.limits.max_queue
        assert not most or model.waiting <= most
        if decision.wake_at < math.inf:
            assert decision.wake_at > world.now
            self._at(decision.wake_at, 0)
        for client in self.clients:
            self._read(client)

    def _read(self, client: Client) -> None:
        for text in client.receives():
            kind, tag, *code = text.split()
            assert int(tag) not in self.ends, "a ticket ended twice"
            self.ends[int(tag)] = code[0] if code else kind
            self.done += kind == "done"

    def _at(self, time: float, tag: int) -> None:
        self._order += 1
        heappush(self._events, (time, self._order, tag))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    slots=st.integers(1, 3),
    most=st.sampled_from([0, 1, 3, 10]),
    seconds=st.sampled_from([0.0, RUN / 2, 4 * RUN]),
    load=st.sampled_from([0.5, 1.0, 3.0]),
    timeouts=st.sampled_from([(0.0,), (0.0, RUN, 3 * RUN)]),
    priorities=st.sampled_from([(0,), (0, 0, 1, 5)]),
)
def test_expired_work_never_runs_and_every_ticket_ends_once(
    seed: int,
    slots: int,
    most: int,
    seconds: float,
    load: float,
    timeouts: tuple[float, ...],
    priorities: tuple[int, ...],
) -> None:
    overload = Overload(Random(seed), slots, Limits(max_queue=most, max_queue_seconds=seconds))
    overload.run(60, load * slots / RUN, timeouts, priorities)


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize(("most", "seconds"), [(16, 0.0), (0, 10 * RUN), (16, 10 * RUN)])
def test_at_twice_the_capacity_as_much_is_done_as_there_can_be(slots: int, most: int, seconds: float) -> None:
    """Half is refused, at once, and what is served has waited no longer than it may."""
    overload = Overload(Random(slots), slots, Limits(max_queue=most, max_queue_seconds=seconds))
    arrivals = 800
    overload.run(arrivals, 2 * slots / RUN, (0.0,), (0,))
    capacity = arrivals / 2
    assert overload.done >= 0.9 * capacity
    model = overload.world.core.models.find("step")
    assert model.statistics.refused + model.statistics.overdue == arrivals - overload.done
    assert model.statistics.refused > 2 * model.statistics.overdue, "most of them at once"
    mean = sum(overload.waits) / len(overload.waits)
    assert mean <= (seconds or 1.2 * most * RUN / slots), "none waits longer than it may; of a number that is the mean"


def test_a_higher_priority_is_served_at_twice_the_capacity() -> None:
    overload = Overload(Random(7), 2, Limits(max_queue=8, max_queue_seconds=10 * RUN))
    overload.run(600, 2 * 2 / RUN, (0.0,), (0, 0, 0, 5))
    served = {priority: [overload.ends[tag] == "done" for tag in tags] for priority, tags in overload.sent.items()}
    assert sum(served[5]) >= 0.95 * len(served[5]), "half of the capacity is asked for at this priority"
    assert 0.1 * len(served[0]) <= sum(served[0]) <= 0.5 * len(served[0])
