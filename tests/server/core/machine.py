"""Anything in any order, found and made small by Hypothesis, and compared with the oracle after every step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
        keep=st.sampled_from([3000, 6000, 400_000, 400_000]),
        server=st.sampled_from([4000, 9000, 1_000_000, 1_000_000]),
        queue=st.sampled_from([100, 1000, 10_000]),
        unsent=st.sampled_from([0, 40, 1000, 1 << 30]),
        delay=st.sampled_from(DELAYS),
        gather=st.sampled_from(GATHER),
        eager=st.booleans(),
    )
    def begin(self, keep: int, server: int, queue: int, unsent: int, delay: float, gather: bool, eager: bool) -> None:
        self.bounds = ExitStack()
        self.bounds.enter_context(bounds(eager=eager))
        self.play = Play(keep=keep, server=server, queue=queue, unsent=unsent, delay=delay, gather=gather)

    @rule(kind=st.sampled_from(OPENERS), ordered=st.booleans(), small=st.booleans())
    def open(self, kind: str, ordered: bool, small: bool) -> None:
        self.play.open(kind, ordered, small)

    @rule(at=any_of, nbytes=st.integers(0, 90), said=frames, ended=seldom)
    def frame(self, at: int, nbytes: int, said: Sequence[Command], ended: bool) -> None:
        self.play.frame(at, nbytes, said, ended=ended)

    @rule(at=any_of, nbytes=st.integers(0, 90), said=frames)
    def frame_that_starts(self, at: int, nbytes: int, said: Sequence[Command]) -> None:
        self.play.frame(at, nbytes, said, ended=False)
        self.play.pair.decide()

    @rule(
        at=any_of,
        nbytes=st.integers(0, 20),
        kind=st.sampled_from(CROWDS),
        said=st.lists(infers, min_size=2, max_size=6),
        equal=st.sampled_from([True, True, True, False]),
        decide=st.booleans(),
    )
    def crowd(self, at: int, nbytes: int, kind: str, said: Sequence[Infer], equal: bool, decide: bool) -> None:
        self.play.crowd(at, nbytes, kind, said, equal=equal)
        if decide:
            self.play.pair.decide()

    @rule(
        at=any_of,
        kind=st.sampled_from(ALONE),
        said=st.lists(infers, min_size=1, max_size=6),
        moment=st.sampled_from(MOMENTS),
        size=st.sampled_from(SIZES),
        hurry=seldom,
        quiet=st.booleans(),
    )
    def alone(
        self, at: int, kind: str, said: Sequence[Infer], moment: float, size: int, hurry: bool, quiet: bool
    ) -> None:
        self.play.alone(at, kind, said, moment, size, hurry)
        if quiet:
            self.play.pair.quiet(decide=True)
            self.play.all_end(size)

    @rule(decide=st.booleans())
    def quiet(self, decide: bool) -> None:
        self.play.pair.quiet(decide=decide)

    @rule(at=any_of, nbytes=st.integers(0, 90), said=frames, size=st.sampled_from(SIZES))
    def frame_that_runs(self, at: int, nbytes: int, said: Sequence[Command], size: int) -> None:
        self.play.frame(at, nbytes, said, ended=False)
        self.play.pair.decide()
        self.play.all_end(size)
        self.play.take(at, written=True, all_of_it=True)

    @precondition(lambda self: self.play.pair.running)
    @rule(
        ends=st.lists(st.tuples(any_of, st.sampled_from(SIZES), seldom, st.booleans()), min_size=1, max_size=3),
        decide=st.booleans(),
    )
    def runs_end(self, ends: Sequence[tuple[int, int, bool, bool]], decide: bool) -> None:
        for at, size, fails, spoils in ends:
            self.play.run_ends(at, size, fails, spoils)
        if decide:
            self.play.pair.decide()

    @rule(
        at=any_of,
        of=any_of,
        nbytes=st.integers(0, 90),
        size=st.sampled_from(SIZES),
        most=st.integers(2, 5),
        fails=seldom,
    )
    def chain(self, at: int, of: int, nbytes: int, size: int, most: int, fails: bool) -> None:
        self.play.chain(at, of, nbytes, size, most, fails)

    @rule(size=st.sampled_from(SIZES), most=st.integers(1, 6), fails=seldom)
    def runs_in_place(self, size: int, most: int, fails: bool) -> None:
        self.play.pair.decide()
        self.play.runs_in_place(size, most, fails)

    @precondition(lambda self: any(self.play.oracle.restoring.values()))
    @rule(at=any_of, decide=st.booleans())
    def slot_is_restored(self, at: int, decide: bool) -> None:
        self.play.pair.restore(at)
        if decide:
            self.play.pair.decide()

    @rule()
    def decide(self) -> None:
        self.play.pair.decide()

    @rule(seconds=st.one_of(st.sampled_from(MOMENTS), st.integers(1, 9).map(lambda n: n / 4)), decide=st.booleans())
    def time_passes(self, seconds: float, decide: bool) -> None:
        self.play.oracle.now += seconds
        if decide:
            self.play.pair.decide()

    @precondition(lambda self: any(stream.pending for stream in self.play.oracle.streams))
    @rule(at=any_of, written=st.booleans(), all_of_it=st.booleans())
    def take(self, at: int, written: bool, all_of_it: bool) -> None:
        self.play.take(at, written=written, all_of_it=all_of_it)

    @precondition(lambda self: any(stream.taken for stream in self.play.oracle.streams))
    @rule(at=any_of)
    def written(self, at: int) -> None:
        self.play.written(at)

    @rule(at=any_of, vanishes=st.booleans(), sure=seldom)
    def leave(self, at: int, vanishes: bool, sure: bool) -> None:
        if sure:
            self.play.leave(at, vanishes)

    @rule(sure=seldom)
    def drain(self, sure: bool) -> None:
        if sure:
            self.play.pair.drain()

    @invariant()
    def all_is_as_expected(self) -> None:
        self.play.pair.check()
        self.play.pair.check_inside()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            with self.bounds:
                self.play.pair.finish()
