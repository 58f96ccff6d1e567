"""A random generator chooses the moves: its walks are longer than those of Hypothesis, and make more sense."""

from __future__ import annotations

from random import Random

from tests.server.core.reference.drawn import (
    COALESCE,
    CROWD_KINDS,
    DELAYS,
    KEEP_BYTES,
    KEEP_BYTES_TOTAL,
    KINDS,
    MAX_CALLS,
    MAX_PRIORITIES,
    MAX_QUEUE_SECONDS,
    MAX_QUEUES,
    MEMORY,
    OTHERS,
    OWNERS,
    PARTS,
    PAUSES,
    PRIORITIES,
    PROCESSORS,
    QUEUE_BYTES,
    SINGLE_KINDS,
    SIZES,
    SLICES,
    STREAM_KINDS,
    TIMEOUTS,
    UNSENT_BYTES,
    Command,
    Fetch,
    Infer,
    Other,
)
from tests.server.core.reference.moves import Moves


def walk(random: Random, steps: int) -> None:
    moves = Moves(
        memory=random.choice(MEMORY),
        keep=random.choice(KEEP_BYTES),
        keep_total=random.choice(KEEP_BYTES_TOTAL),
        queue=random.choice(QUEUE_BYTES),
        most=random.choice(MAX_QUEUES),
        seconds=random.choice(MAX_QUEUE_SECONDS),
        unsent=random.choice(UNSENT_BYTES),
        delay=random.choice(DELAYS),
        coalesce=random.choice(COALESCE),
        max_priority=random.choice(MAX_PRIORITIES),
        processors=random.choice(PROCESSORS),
    )
    for _ in range(steps):
        _step(moves, random)
        moves.comparison.check()
    moves.comparison.finish()


def _step(moves: Moves, random: Random) -> None:
    at, chance = random.randrange(1000), random.random()
    if chance < 0.25:
        commands = [_command(random) for _ in range(random.randint(1, 4))]
        moves.frame(at, random.randrange(90), commands, ended=random.random() < 0.02)
    elif chance < 0.32:
        infers = [_infer(random) for _ in range(random.randint(2, 8))]
        moves.crowd(at, random.randrange(20), random.choice(CROWD_KINDS), infers, equal=random.random() < 0.8)
    elif chance < 0.36:
        fails = random.random() < 0.15
        moves.chain(
            at, random.randrange(9999), random.randrange(90), random.choice(SIZES), random.choice([2, 3, 5]), fails
        )
    elif chance < 0.4:
        moves.comparison.decide()
        moves.runs_in_place(random.choice(SIZES), random.choice([2, 4, 6]), random.random() < 0.15)
    elif chance < 0.47:
        infers = [_infer(random) for _ in range(random.randint(1, 6))]
        pause, size, hurry = random.choice(PAUSES), random.choice(SIZES), random.random() < 0.1
        moves.single(at, random.choice(SINGLE_KINDS), infers, pause, size, hurry)
        if random.random() < 0.5:
            moves.comparison.idle(decide=True)
            moves.all_end(size)
    elif chance < 0.49:
        moves.comparison.idle(decide=random.random() < 0.5)
    elif chance < 0.57:
        moves.run_ends(at, random.choice(SIZES), random.random() < 0.15, random.random() < 0.5)
    elif chance < 0.59:
        moves.comparison.restore(at)
    elif chance < 0.7:
        moves.take(at, flush=random.random() < 0.7, all_of_it=random.random() < 0.5)
    elif chance < 0.75:
        moves.flush(at)
    elif chance < 0.8:
        moves.state.now += random.choice(PAUSES) if random.random() < 0.5 else random.randint(1, 6) / 4
    elif chance < 0.82:
        moves.leave(at, random.random() < 0.5)
    elif chance < 0.87:
        moves.open(random.randrange(OWNERS), random.choice(STREAM_KINDS), random.random() < 0.4, random.random() < 0.3)
    elif chance < 0.871:
        moves.comparison.drain()
    elif chance < 0.93:
        moves.vary(at, random.randrange(1000), removes=random.random() < 0.3, direct=random.random() < 0.5)
    chance = random.random()
    if chance < 0.5:
        moves.comparison.decide()
    elif chance < 0.55:
        moves.comparison.decide(direct=False)
    elif chance < 0.6:
        moves.comparison.decide_again()


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
    return Infer(of, number, not seldom[0], kind, at, sources, random.choice(PARTS), timeout, priority, *seldom[1:])
