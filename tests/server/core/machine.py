"""Anything in any order, found and made small by Hypothesis, and compared with the oracle after every step."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.server.core.play import (
    CROWDS,
    DELAYS,
    KINDS,
    MAX_CALLS,
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
    )
    def begin(self, keep: int, server: int, queue: int, unsent: int, delay: float) -> None:
        self.few_calls = patch("headrace.server.core.streams.MAX_CALLS", MAX_CALLS)
        self.few_calls.start()
        self.play = Play(keep=keep, server=server, queue=queue, unsent=unsent, delay=delay)

    @rule(unary=st.sampled_from([False, False, False, True]), ordered=st.booleans(), small=st.booleans())
    def open(self, unary: bool, ordered: bool, small: bool) -> None:
        self.play.open(unary, ordered, small)

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

    @rule(at=any_of, nbytes=st.integers(0, 90), said=frames, size=st.sampled_from(SIZES))
    def frame_that_runs(self, at: int, nbytes: int, said: Sequence[Command], size: int) -> None:
        self.play.frame(at, nbytes, said, ended=False)
        self.play.pair.decide()
        self.play.all_end(size)
        self.play.take(at, written=True, all_of_it=True)

    @precondition(lambda self: self.play.pair.running)
    @rule(
        ends=st.lists(st.tuples(any_of, st.sampled_from(SIZES), seldom), min_size=1, max_size=3), decide=st.booleans()
    )
    def runs_end(self, ends: Sequence[tuple[int, int, bool]], decide: bool) -> None:
        for at, size, fails in ends:
            self.play.run_ends(at, size, fails)
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

    @rule()
    def decide(self) -> None:
        self.play.pair.decide()

    @rule(quarters=st.integers(1, 9), decide=st.booleans())
    def time_passes(self, quarters: int, decide: bool) -> None:
        self.play.oracle.now += quarters / 4
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
            try:
                self.play.pair.finish()
            finally:
                self.few_calls.stop()
