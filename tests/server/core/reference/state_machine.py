"""Hypothesis chooses the moves, compares the core with the reference model after each, and shrinks what fails."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from tests.server.core.reference.moves import Moves, bounds

any_of = st.integers(0, 999)
seldom = st.integers(0, 19).map(lambda number: number == 19)
infers = st.builds(
    Infer,
    call=any_of,
    number=st.integers(1, MAX_CALLS),
    defines=st.integers(0, 9).map(bool),
    kind=st.sampled_from(KINDS),
    tag=any_of,
    sources=st.tuples(any_of, any_of, any_of),
    parts=st.sampled_from(PARTS),
    timeout=st.sampled_from(TIMEOUTS),
    priority=st.sampled_from(PRIORITIES),
    wrong_sizes=seldom,
    wrong_sources=seldom,
    wrong_tag=seldom,
)
fetches = st.builds(
    Fetch,
    tag=any_of,
    source=any_of,
    slices=st.sampled_from(SLICES),
    wrong_tag=seldom,
    wrong_source=seldom,
)
others = st.builds(Other, kind=st.sampled_from(OTHERS), tag=any_of, name=any_of, choice=any_of)
frames = st.lists(st.one_of(infers, infers, infers, fetches, others), min_size=1, max_size=5)


class CoreMachine(RuleBasedStateMachine):
    @initialize(
        memory=st.sampled_from(MEMORY),
        keep=st.sampled_from(KEEP_BYTES),
        keep_total=st.sampled_from(KEEP_BYTES_TOTAL),
        queue=st.sampled_from(QUEUE_BYTES),
        most=st.sampled_from(MAX_QUEUES),
        seconds=st.sampled_from(MAX_QUEUE_SECONDS),
        unsent=st.sampled_from(UNSENT_BYTES),
        delay=st.sampled_from(DELAYS),
        coalesce=st.sampled_from(COALESCE),
        max_priority=st.sampled_from(MAX_PRIORITIES),
        processors=st.sampled_from(PROCESSORS),
        eager=st.booleans(),
    )
    def begin(
        self,
        memory: int,
        keep: int,
        keep_total: int,
        queue: int,
        most: int,
        seconds: float,
        unsent: int,
        delay: float,
        coalesce: bool,
        max_priority: int,
        processors: int,
        eager: bool,
    ) -> None:
        self.bounds = ExitStack()
        self.bounds.enter_context(bounds(eager=eager))
        self.moves = Moves(
            memory=memory,
            keep=keep,
            keep_total=keep_total,
            queue=queue,
            most=most,
            seconds=seconds,
            unsent=unsent,
            delay=delay,
            coalesce=coalesce,
            max_priority=max_priority,
            processors=processors,
        )

    @rule(
        owner=st.integers(0, OWNERS - 1),
        kind=st.sampled_from(STREAM_KINDS),
        ordered=st.booleans(),
        small_messages=st.booleans(),
    )
    def open(self, owner: int, kind: str, ordered: bool, small_messages: bool) -> None:
        self.moves.open(owner, kind, ordered, small_messages)

    @rule(at=any_of, nbytes=st.integers(0, 90), commands=frames, ended=seldom)
    def frame(self, at: int, nbytes: int, commands: Sequence[Command], ended: bool) -> None:
        self.moves.frame(at, nbytes, commands, ended=ended)

    @rule(at=any_of, nbytes=st.integers(0, 90), commands=frames)
    def frame_that_starts(self, at: int, nbytes: int, commands: Sequence[Command]) -> None:
        self.moves.frame(at, nbytes, commands, ended=False)
        self.moves.comparison.decide()

    @rule(
        at=any_of,
        nbytes=st.integers(0, 20),
        kind=st.sampled_from(CROWD_KINDS),
        commands=st.lists(infers, min_size=2, max_size=6),
        equal=st.sampled_from([True, True, True, False]),
        decide=st.booleans(),
    )
    def crowd(self, at: int, nbytes: int, kind: str, commands: Sequence[Infer], equal: bool, decide: bool) -> None:
        self.moves.crowd(at, nbytes, kind, commands, equal=equal)
        if decide:
            self.moves.comparison.decide()

    @rule(
        at=any_of,
        kind=st.sampled_from(SINGLE_KINDS),
        commands=st.lists(infers, min_size=1, max_size=6),
        pause=st.sampled_from(PAUSES),
        size=st.sampled_from(SIZES),
        hurry=seldom,
        idle=st.booleans(),
    )
    def single(
        self, at: int, kind: str, commands: Sequence[Infer], pause: float, size: int, hurry: bool, idle: bool
    ) -> None:
        self.moves.single(at, kind, commands, pause, size, hurry)
        if idle:
            self.moves.comparison.idle(decide=True)
            self.moves.all_end(size)

    @rule(decide=st.booleans())
    def idle(self, decide: bool) -> None:
        self.moves.comparison.idle(decide=decide)

    @rule(at=any_of, nbytes=st.integers(0, 90), commands=frames, size=st.sampled_from(SIZES))
    def frame_that_runs(self, at: int, nbytes: int, commands: Sequence[Command], size: int) -> None:
        self.moves.frame(at, nbytes, commands, ended=False)
        self.moves.comparison.decide()
        self.moves.all_end(size)
        self.moves.take(at, flush=True, all_of_it=True)

    @precondition(lambda self: self.moves.comparison.running)
    @rule(
        ends=st.lists(st.tuples(any_of, st.sampled_from(SIZES), seldom, st.booleans()), min_size=1, max_size=3),
        decide=st.booleans(),
    )
    def runs_end(self, ends: Sequence[tuple[int, int, bool, bool]], decide: bool) -> None:
        for at, size, fails, spoils in ends:
            self.moves.run_ends(at, size, fails, spoils)
        if decide:
            self.moves.comparison.decide()

    @rule(
        at=any_of,
        of=any_of,
        nbytes=st.integers(0, 90),
        size=st.sampled_from(SIZES),
        most=st.integers(2, 5),
        fails=seldom,
    )
    def chain(self, at: int, of: int, nbytes: int, size: int, most: int, fails: bool) -> None:
        self.moves.chain(at, of, nbytes, size, most, fails)

    @rule(size=st.sampled_from(SIZES), most=st.integers(1, 6), fails=seldom)
    def runs_in_place(self, size: int, most: int, fails: bool) -> None:
        self.moves.comparison.decide()
        self.moves.runs_in_place(size, most, fails)

    @precondition(lambda self: any(self.moves.state.restoring.values()))
    @rule(at=any_of, decide=st.booleans())
    def slot_is_restored(self, at: int, decide: bool) -> None:
        self.moves.comparison.restore(at)
        if decide:
            self.moves.comparison.decide()

    @rule(direct=st.sampled_from([True, True, True, False]))
    def decide(self, direct: bool) -> None:
        self.moves.comparison.decide(direct=direct)

    @rule()
    def decide_again(self) -> None:
        self.moves.comparison.decide_again()

    @rule(seconds=st.one_of(st.sampled_from(PAUSES), st.integers(1, 9).map(lambda n: n / 4)), decide=st.booleans())
    def time_passes(self, seconds: float, decide: bool) -> None:
        self.moves.state.now += seconds
        if decide:
            self.moves.comparison.decide()

    @precondition(lambda self: any(stream.outbox for stream in self.moves.state.streams))
    @rule(at=any_of, flush=st.booleans(), all_of_it=st.booleans())
    def take(self, at: int, flush: bool, all_of_it: bool) -> None:
        self.moves.take(at, flush=flush, all_of_it=all_of_it)

    @precondition(lambda self: any(stream.taken for stream in self.moves.state.streams))
    @rule(at=any_of)
    def flush(self, at: int) -> None:
        self.moves.flush(at)

    @rule(at=any_of, vanishes=st.booleans(), sure=seldom)
    def leave(self, at: int, vanishes: bool, sure: bool) -> None:
        if sure:
            self.moves.leave(at, vanishes)

    @rule(at=any_of, of=any_of, removes=st.booleans(), direct=st.booleans())
    def vary(self, at: int, of: int, removes: bool, direct: bool) -> None:
        self.moves.vary(at, of, removes=removes, direct=direct)

    @rule(sure=seldom)
    def drain(self, sure: bool) -> None:
        if sure:
            self.moves.comparison.drain()

    @invariant()
    def all_is_as_expected(self) -> None:
        self.moves.comparison.check()

    def teardown(self) -> None:
        if hasattr(self, "moves"):
            with self.bounds:
                self.moves.comparison.finish()
