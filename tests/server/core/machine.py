"""Anything that clients, the runtime and time may do, in any order, compared with the oracle after every step.

Numbers that are drawn stand for a choice among what there is at that moment, so that most commands make sense; each may
also be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.server.core.core import Limits
from headrace.server.core.quotas import Cargo as CoreCargo
from headrace.server.core.streams import MIN_MAX_MESSAGE
from headrace.wire.errors import Internal
from tests.server.core.books import Cargo, ExpectedOutput, ExpectedStream, KnownCall, compatible
from tests.server.core.known_calls import CALLS, MODELS, NAMES
from tests.server.core.pair import Pair

MAX_CALLS = 4
MOST_STREAMS = 4
WINDOW = 4
TAGS = 10
"""Tags that clients use: few, so that they meet."""
REFERRING = [call for call in CALLS if call.references and call.wrong is None][:100]
T = TypeVar("T")

any_of = st.integers(0, 999)
seldom = st.integers(0, 19).map(lambda number: number == 19)


@dataclass(frozen=True)
class Infer:
    call: int
    number: int
    defines: bool
    refers: bool
    tag: int
    sources: tuple[int, int, int]
    timeout: float
    priority: int
    wrong_sizes: bool
    wrong_sources: bool
    wrong_tag: bool


@dataclass(frozen=True)
class Fetch:
    tag: int
    source: int
    slices: tuple[tuple[int, int], ...]
    wrong_tag: bool
    wrong_source: bool


@dataclass(frozen=True)
class Other:
    kind: str
    tag: int
    name: int
    choice: int


Command = Infer | Fetch | Other

infers = st.builds(
    Infer,
    call=any_of,
    number=st.integers(1, MAX_CALLS),
    defines=st.integers(0, 9).map(bool),
    refers=st.booleans(),
    tag=any_of,
    sources=st.tuples(any_of, any_of, any_of),
    timeout=st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 2.0]),
    priority=st.sampled_from([0, 0, 0, 0, 0, 1, 5, 9, 10]),
    wrong_sizes=seldom,
    wrong_sources=seldom,
    wrong_tag=seldom,
)
bounds = st.sampled_from([(0, 2), (0, 4), (1, 1), (2, 3), (-1, 2), (2, 1), (0, 5), (0, 40_000)])
fetches = st.builds(
    Fetch,
    tag=any_of,
    source=any_of,
    slices=st.sampled_from([(), (), ((0, 0),) * 33]) | st.tuples(bounds) | st.tuples(bounds, bounds),
    wrong_tag=seldom,
    wrong_source=seldom,
)
others = st.builds(
    Other,
    kind=st.sampled_from(["release", "release", "cancel", "cancel", "define", "open", "reject"]),
    tag=any_of,
    name=any_of,
    choice=any_of,
)
commands = st.lists(st.one_of(infers, infers, infers, fetches, others), min_size=1, max_size=5)


class CoreMachine(RuleBasedStateMachine):
    @initialize(
        keep=st.sampled_from([3000, 6000, 400_000]),
        server=st.sampled_from([4000, 9000, 1_000_000]),
        queue=st.sampled_from([64, 200, 10_000]),
        unsent=st.sampled_from([0, 40, 1000, 1 << 30]),
    )
    def begin(self, keep: int, server: int, queue: int, unsent: int) -> None:
        limits = Limits(
            window=WINDOW,
            queue_bytes=queue,
            unsent_bytes=unsent,
            keep_bytes=keep,
            keep_bytes_total=server,
            keep_seconds=2.0,
            grace=3.0,
        )
        self.few_calls = patch("headrace.server.core.streams.MAX_CALLS", MAX_CALLS)
        self.few_calls.start()
        self.pair = Pair(limits, MODELS, MAX_CALLS)
        self.oracle = self.pair.oracle
        self.pair.open_stream(unary=False)

    @property
    def streams(self) -> list[ExpectedStream]:
        """The streams that are open, and sometimes one that is not."""
        streams = self.oracle.streams
        return [stream for stream in streams if not stream.ended or stream is streams[-1]]

    # ---------------------------------------------------------------------------------------------- what may happen

    @precondition(lambda self: sum(not stream.ended for stream in self.oracle.streams) < MOST_STREAMS)
    @rule(unary=st.sampled_from([False, False, False, True]), ordered=st.booleans(), small=st.booleans())
    def open(self, unary: bool, ordered: bool, small: bool) -> None:
        stream = self.pair.open_stream(unary=unary)
        if ordered or small:
            self.pair.open(stream, ordered, MIN_MAX_MESSAGE if small else 0)

    @rule(at=any_of, nbytes=st.integers(0, 90), said=commands, decide=st.booleans())
    def frame(self, at: int, nbytes: int, said: Sequence[Command], decide: bool) -> None:
        """Commands of one message: nothing is decided before the last of them."""
        stream = pick(self.streams, at)
        cargo = self.pair.cargo(nbytes)
        for command in said:
            match command:
                case Infer():
                    self.infer(stream, command, cargo)
                case Fetch():
                    self.fetch(stream, command)
                case Other():
                    self.other(stream, command)
        if decide:
            self.pair.decide()

    @precondition(lambda self: self.pair.running)
    @rule(
        ends=st.lists(st.tuples(any_of, st.sampled_from([4, 4, 0, 1, 3, 500, 40_000]), seldom), min_size=1, max_size=3),
        decide=st.booleans(),
    )
    def runs_end(self, ends: Sequence[tuple[int, int, bool]], decide: bool) -> None:
        for at, size, fails in ends:
            if running := self.pair.running:
                self.pair.end(pick(running, at), size, Internal("the run failed") if fails else None)
        if decide:
            self.pair.decide()

    @rule()
    def decide(self) -> None:
        self.pair.decide()

    @rule(quarters=st.integers(1, 9), decide=st.booleans())
    def time_passes(self, quarters: int, decide: bool) -> None:
        self.oracle.now += quarters / 4
        if decide:
            self.pair.decide()

    @precondition(lambda self: any(stream.pending for stream in self.oracle.streams))
    @rule(at=any_of, written=st.booleans())
    def take(self, at: int, written: bool) -> None:
        stream = pick([stream for stream in self.oracle.streams if stream.pending], at)
        self.pair.take(stream)
        if written:
            self.pair.written(stream)

    @precondition(lambda self: any(stream.taken for stream in self.oracle.streams))
    @rule(at=any_of)
    def written(self, at: int) -> None:
        self.pair.written(pick([stream for stream in self.oracle.streams if stream.taken], at))

    @rule(at=any_of, vanishes=st.booleans(), sure=seldom)
    def leave(self, at: int, vanishes: bool, sure: bool) -> None:
        if sure:
            stream = pick(self.streams, at)
            self.pair.vanish(stream) if vanishes else self.pair.half_close(stream)

    @rule(sure=st.integers(0, 7))
    def drain(self, sure: int) -> None:
        if sure == 7:
            self.pair.drain()

    @invariant()
    def all_is_as_expected(self) -> None:
        self.pair.check()
        self.pair.check_inside()

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            try:
                self.pair.finish()
            finally:
                self.few_calls.stop()

    # ----------------------------------------------------------------------------------------------------- commands

    def infer(self, stream: ExpectedStream, said: Infer, cargo: tuple[Cargo, CoreCargo]) -> None:
        call = pick(CALLS, said.call)
        if said.refers:
            call = next((each for each in rotated(REFERRING, said.call) if has_sources(stream, each)), call)
        if said.defines:
            self.pair.define(stream, said.number, call, 100)
        call = stream.calls.get(said.number, call)
        sizes = [7, *call.sizes[1:]] if said.wrong_sizes else call.sizes
        sources: list[int] = []
        for at, (_, name, _) in zip(said.sources, call.references, strict=False):
            keeping = [out.ticket.tag for out in sources_for(stream, name)]
            sources.append(pick(keeping, at) if keeping else at % TAGS)
        if said.wrong_sources:
            sources = [each % TAGS for each in said.sources[: said.call % 3]]
        tag = said.tag % TAGS if said.wrong_tag else free_tag(stream, said.tag)
        inline = [bytes(size) for size in sizes]
        self.pair.infer(stream, tag, said.number, inline, cargo, sources, said.timeout, said.priority)

    def fetch(self, stream: ExpectedStream, said: Fetch) -> None:
        outs = [(ticket.tag, name) for ticket in stream.tickets for out in ticket.outs for name in out.port.names]
        source, name = pick(outs, said.source) if outs else (said.source % TAGS, pick(NAMES, said.source))
        if said.wrong_source:
            source, name = said.source % TAGS, pick(NAMES, said.source // TAGS)
        tag = said.tag % TAGS if said.wrong_tag else free_tag(stream, said.tag)
        self.pair.fetch(stream, tag, source, name, said.slices)

    def other(self, stream: ExpectedStream, said: Other) -> None:
        live = [ticket.tag for ticket in stream.tickets if ticket.live]
        tag = pick([*live, *live, *range(TAGS)], said.tag)
        match said.kind:
            case "release":
                names = [pick(NAMES, said.name), pick(NAMES, said.choice)][: said.choice % 3]
                self.pair.release(stream, tag, names)
            case "cancel":
                self.pair.cancel(stream, tag)
            case "define":
                nbytes = pick([0, 100, 3 << 20, 5 << 20], said.name)
                self.pair.define(stream, said.choice % (MAX_CALLS + 3), pick(CALLS, said.tag), nbytes)
            case "open":
                self.pair.open(stream, bool(said.choice % 2), pick([0, 1, 64 << 10], said.name))
            case _:
                self.pair.reject(stream, Internal("what no command says"))


def pick(items: Sequence[T], at: int) -> T:
    return items[at % len(items)]


def rotated(items: Sequence[T], at: int) -> Iterator[T]:
    """The items from one on, in a circle."""
    return (items[(at + step) % len(items)] for step in range(len(items)))


def sources_for(stream: ExpectedStream, name: str) -> list[ExpectedOutput]:
    """Outputs that a reference to this name may mean: mostly those that can be had."""
    outs = [out for ticket in stream.tickets for out in ticket.outs if name in out.port.names]
    return [out for out in outs if stream.find(out.ticket.tag, name) is out] or outs


def has_sources(stream: ExpectedStream, call: KnownCall) -> bool:
    """Whether everything that a call refers to is there, and fits."""
    return all(
        any(compatible(out.port, port) for out in sources_for(stream, name)) for port, name, _ in call.references
    )


def free_tag(stream: ExpectedStream, at: int) -> int:
    taken = {ticket.tag for ticket in stream.tickets if ticket.live}
    free = [tag for tag in range(1, TAGS) if tag not in taken]
    return pick(free, at) if free else at % TAGS
