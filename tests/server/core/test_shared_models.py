"""What the core starts of several models that share the processor."""

from __future__ import annotations

from dataclasses import replace

from headrace.server.core.limits import Limits
from headrace.server.core.sharing import LONG_SECONDS
from tests.server.core.model_specs import add, grow, many, step
from tests.server.core.scenario import Client, Scenario


def sharing(processors: int = 1) -> Scenario:
    """Models of one thread in each run: `step` and `add` with two slots, and `grow`, which runs directly."""
    specs = [replace(spec, threads=1) for spec in (step(2), add(2))]
    return Scenario(*specs, replace(grow(2), threads=1, direct=True), limits=Limits(processors=processors))


def adds(client: Client, *tags: int, priority: int = 0) -> None:
    for tag in tags:
        client.infer(tag, "add", a=(4,), b=(4,), priority=priority)


def steps(client: Client, *tags: int, priority: int = 0) -> None:
    for tag in tags:
        client.infer(tag, priority=priority)


def test_a_model_alone_uses_its_slots_and_others_wait_for_the_next_end() -> None:
    world = sharing()
    client = world.client()
    steps(client, 1, 2, 3)
    assert world.starts() == [1, 2]  # the second one waits for the first in the runtime
    adds(client, 11, 12)
    # It shares the processor at once, since it has had less.
    assert world.starts() == [11]
    world.settled()
    world.now += 1
    world.end(1)
    world.settled()  # the second one computes now
    world.end(2)
    assert world.starts() == [12]  # the model that has had less
    world.end(11)
    world.end(12)
    assert world.starts() == [3]


def test_a_ticket_cannot_raise_the_priority_of_its_model() -> None:
    world = sharing()
    calm, hasty = world.client("calm"), world.client("hasty")
    steps(hasty, *range(1, 9))
    adds(calm, *range(11, 19))
    world.starts()
    steps(hasty, 9, priority=9)
    order: list[int] = []
    while world.running:
        world.now += 1
        world.end(next(iter(world.running)))
        order += world.starts()
    # It comes first among those of its model, but the models take turns.
    assert order.index(9) == min(order.index(tag) for tag in order if tag < 10)
    for count in range(1, len(order) + 1):
        hasty_ones = sum(tag < 10 for tag in order[:count])
        assert abs(2 * hasty_ones - count) <= 3


def test_a_direct_model_waits_only_while_its_runs_are_long() -> None:
    world = sharing()
    client = world.client()
    steps(client, 1, 2)
    assert world.starts() == [1, 2]
    for tag in (21, 22, 23):
        client.infer(tag, "grow", x=(4,))
    assert world.starts() == [21, 22]
    world.now += 1
    world.end(21, times=(0, 2 * LONG_SECONDS, 0))  # it was handed over
    world.end(22)
    adds(client, 11, 12, 13)
    assert sorted(world.starts()) == [11, 23]  # it waits now, and has its turn
    for tag in (24, 25, 26):
        client.infer(tag, "grow", x=(4,))
    world.settled()
    world.now += LONG_SECONDS / 100
    world.end(23)  # short: it runs directly again
    assert sorted(world.starts()) == [24, 25]


def test_a_cancelled_run_computes_until_it_has_stopped() -> None:
    world = sharing()
    client = world.client()
    steps(client, 1, 2)
    adds(client, 11, 12)
    world.starts()
    for tag in (1, 2, 11):
        client.cancel(tag)
    world.settled()
    for tag in (1, 2, 11):
        world.end(tag)
    assert world.starts() == [12]


def test_models_of_other_devices_do_not_wait() -> None:
    specs = replace(step(2), threads=1), replace(many(2, direct=False, batch=1), threads=0)
    world = Scenario(*specs, limits=Limits(processors=1))
    client = world.client()
    steps(client, 1, 2)
    for tag in (11, 12):
        client.infer(tag, "many", x=(1,))
    assert sorted(world.starts()) == [1, 2, 11, 12]


def test_a_model_that_is_loaded_again_neither_owes_nor_catches_up() -> None:
    world = sharing()
    client = world.client()
    steps(client, 1)
    adds(client, 11)
    world.starts()
    world.now += 100
    world.end(1)
    world.end(11)
    world.core.models.add(replace(world.specs["step"], weight=2))
    steps(client, 2, 3, 4)
    adds(client, 12, 13, 14)
    order = []
    for _ in range(6):
        order += world.starts()
        world.now += 1
        for tag in [*world.running]:
            world.end(tag)
    assert sorted(order) == [2, 3, 4, 12, 13, 14]
    assert {2, 3, 4} & {*order[:3]}
    assert {12, 13, 14} & {*order[:3]}
