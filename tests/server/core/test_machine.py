"""Anything in any order. HEADRACE_EXAMPLES, HEADRACE_STEPS and HEADRACE_WALKS make it longer."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, settings

from tests.server.core.machine import CoreMachine
from tests.server.core.play import (
    ALONE,
    CROWDS,
    DELAYS,
    GATHER,
    KINDS,
    MAX_CALLS,
    MOMENTS,
    OPENERS,
    OTHERS,
    PRIORITIES,
    SIZES,
    SLICES,
    TIMEOUTS,
    Command,
    Fetch,
    Infer,
    Other,
    Play,
    bounds,
)

WALKS = int(os.environ.get("HEADRACE_WALKS", "100"))
STEPS = int(os.environ.get("HEADRACE_STEPS", "40"))

TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=int(os.environ.get("HEADRACE_EXAMPLES", "60")),
    stateful_step_count=STEPS,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("seed", range(WALKS))
def test_walk(seed: int) -> None:
    """A longer way than Hypothesis goes, and further in: most of what is said makes sense. The seed tells it all."""
    random = Random(seed)
    with bounds(eager=random.random() < 0.5):
        _walk(random)


def _walk(random: Random) -> None:
    play = Play(
        keep=random.choice([3000, 6000, 400_000, 400_000]),
        server=random.choice([4000, 9000, 1_000_000, 1_000_000]),
        queue=random.choice([100, 1000, 10_000]),
        unsent=random.choice([0, 40, 1000, 1 << 30]),
        delay=random.choice(DELAYS),
        gather=random.choice(GATHER),
    )
    for _ in range(5 * STEPS):
        _step(play, random)
        play.pair.check()
        play.pair.check_inside()
    play.pair.finish()


def _step(play: Play, random: Random) -> None:
    at, chance = random.randrange(1000), random.random()
    if chance < 0.25:
        said = [_command(random) for _ in range(random.randint(1, 4))]
        play.frame(at, random.randrange(90), said, ended=random.random() < 0.02)
    elif chance < 0.32:
        said_by_all = [_infer(random) for _ in range(random.randint(2, 8))]
        play.crowd(at, random.randrange(20), random.choice(CROWDS), said_by_all, equal=random.random() < 0.8)
    elif chance < 0.36:
        fails = random.random() < 0.15
        play.chain(
            at, random.randrange(9999), random.randrange(90), random.choice(SIZES), random.choice([2, 3, 5]), fails
        )
    elif chance < 0.4:
        play.pair.decide()
        play.runs_in_place(random.choice(SIZES), random.choice([2, 4, 6]), random.random() < 0.15)
    elif chance < 0.47:
        said_alone = [_infer(random) for _ in range(random.randint(1, 6))]
        moment, size, hurry = random.choice(MOMENTS), random.choice(SIZES), random.random() < 0.1
        play.alone(at, random.choice(ALONE), said_alone, moment, size, hurry)
        if random.random() < 0.5:
            play.pair.quiet(decide=True)
            play.all_end(size)
    elif chance < 0.49:
        play.pair.quiet(decide=random.random() < 0.5)
    elif chance < 0.57:
        play.run_ends(at, random.choice(SIZES), random.random() < 0.15, random.random() < 0.5)
    elif chance < 0.59:
        play.pair.restore(at)
    elif chance < 0.7:
        play.take(at, written=random.random() < 0.7, all_of_it=random.random() < 0.5)
    elif chance < 0.75:
        play.written(at)
    elif chance < 0.8:
        play.oracle.now += random.choice(MOMENTS) if random.random() < 0.5 else random.randint(1, 6) / 4
    elif chance < 0.82:
        play.leave(at, random.random() < 0.5)
    elif chance < 0.87:
        play.open(random.choice(OPENERS), random.random() < 0.4, random.random() < 0.3)
    elif chance < 0.871:
        play.pair.drain()
    if random.random() < 0.6:
        play.pair.decide()


def _command(random: Random) -> Command:
    at, of = random.randrange(1000), random.randrange(1000)
    match random.choice(["infer"] * 6 + ["fetch", "other", "other"]):
        case "infer":
            return _infer(random)
        case "fetch":
            return Fetch(at, of, random.choice(SLICES), random.random() < 0.04, random.random() < 0.04)
        case _:
            return Other(random.choice(OTHERS), at, of, random.randrange(1000))


def _infer(random: Random) -> Infer:
    at, of, seldom = random.randrange(1000), random.randrange(1000), [random.random() < 0.04 for _ in range(4)]
    sources = random.randrange(1000), random.randrange(1000), random.randrange(1000)
    timeout, priority = random.choice(TIMEOUTS), random.choice(PRIORITIES)
    kind, number = random.choice(KINDS), random.randint(1, MAX_CALLS)
    return Infer(of, number, not seldom[0], kind, at, sources, timeout, priority, *seldom[1:])
