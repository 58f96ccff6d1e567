"""What clients, the runtime and time may do, to the core and the oracle at once.

Numbers stand for a choice among what there is at that moment, so that most commands make sense; each may also be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from unittest.mock import patch

from headrace.server.core.limits import Limits
from headrace.server.core.quotas import MessageCharge as CoreCargo
from headrace.server.core.state import MIN_MAX_MESSAGE_BYTES
from headrace.wire.errors import Internal
from tests.server.core.books import ExpectedOutput, ExpectedStream, KnownCall, MessageCharge, compatible
from tests.server.core.known_calls import CALLS, MODELS, NAMES
from tests.server.core.pair import Pair

MAX_CALLS = 4
"""Calls that a stream may define while this plays."""
MOST_STREAMS = 4
WINDOW = 5
TAGS = 10
"""Tags that clients use: few, so that they meet."""
REFERRING = [call for call in CALLS if call.references and call.wrong is None]
INLINE = [call for call in CALLS if not call.references and call.wrong is None]
POOLS = {"any": CALLS, "inline": INLINE, "reference": REFERRING[:100]}
for name in ("many", "pairs"):
    POOLS[name] = [call for call in INLINE if call.spec.name == name]
    POOLS[f"reference to {name}"] = [call for call in REFERRING if call.spec.name == name]
CHAINS = [
    (first, link)
    for link in REFERRING
    for first in INLINE
    if first.spec is link.spec
    and all(
        any(name in out.names and compatible(out, port) for out in call.keep)
        for call in (first, link)
        for port, name, _ in link.references
    )
]
"""A call, and one that goes on from what either of them keeps."""
# How often each is drawn is how often it stands there.
KINDS = ("reference",) * 6 + ("inline",) * 4 + ("any",)
ALONE = ("many", "many", "many", "pairs", "reference to many", "any")
CROWDS = ("many", "many", "reference to many", "pairs", "reference to pairs")
TIMEOUTS = (0.0, 0.0, 0.0, 0.0, 0.0, 1 / 64, 0.25, 0.5, 1.0, 2.0)
PRIORITIES = (0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 5, 5, 9, 9, 10)
DELAYS = (0.0, 0.0, 0.0, 0.5)
GATHER = (True, True, True, False)
MOMENTS = (0.0, 0.0, 1 / 4096, 1 / 1024)
"""Seconds between two that come one after the other."""
OPENERS = ("native", "native", "call", "other protocol", "other protocol")
SIZES = (4, 4, 4, 0, 1, 3, 500, 40_000)
OTHERS = ("release", "release", "release", "cancel", "cancel", "cancel", "define", "open", "reject")
_BOUNDS = ((0, 2), (0, 4), (1, 1), (2, 3), (-1, 2), (2, 1), (0, 5), (0, 40_000))
SLICES = ((), (), (), *((each,) for each in _BOUNDS), ((0, 1), (0, 1)), ((0, 0),) * 33)
T = TypeVar("T")


@dataclass(frozen=True)
class Infer:
    call: int
    number: int
    defines: bool
    kind: str
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


@contextmanager
def bounds(*, eager: bool) -> Iterator[None]:
    """What plays, plays inside. `eager`: tickets are left to wait for others more often than it would pay."""
    with ExitStack() as stack:
        stack.enter_context(patch("headrace.server.core.state.MAX_CALLS", MAX_CALLS))
        if eager:
            for name, value in (("MIN_PAUSE", 1), ("WORTHWHILE", 2), ("WORTHWHILE_OF_ONE_STREAM", 2)):
                stack.enter_context(patch(f"headrace.server.core.batching.{name}", value))
        yield


class Play:
    """To be made and used inside `bounds`."""

    def __init__(self, *, keep: int, server: int, queue: int, unsent: int, delay: float, gather: bool) -> None:
        limits = Limits(
            window=WINDOW,
            queue_bytes=queue,
            unsent_bytes=unsent,
            keep_bytes=keep,
            keep_bytes_total=server,
            keep_seconds=2.0,
            grace=3.0,
            batch_delay=delay,
            coalesce=gather,
        )
        self.pair = Pair(limits, MODELS, MAX_CALLS)
        self.oracle = self.pair.oracle
        self.pair.open_stream(unary=False)

    @property
    def streams(self) -> list[ExpectedStream]:
        """Those that are open."""
        return [stream for stream in self.oracle.streams if not stream.ended]

    def open(self, kind: str, ordered: bool, small: bool) -> None:
        if len(self.streams) < MOST_STREAMS:
            window = WINDOW if kind == "other protocol" else 0
            stream = self.pair.open_stream(unary=kind != "native", window=window)
            if ordered or small:
                self.pair.open(stream, ordered, MIN_MAX_MESSAGE_BYTES if small else 0)

    def frame(self, at: int, nbytes: int, said: Sequence[Command], *, ended: bool) -> None:
        """Commands of one message: nothing is decided before the last of them. `ended`: on a stream that has."""
        streams = [stream for stream in self.oracle.streams if stream.ended == ended and not stream.half_closed]
        if not streams:
            return
        stream = pick(streams, at)
        charge = self.pair.charge(nbytes)
        for command in said:
            match command:
                case Infer():
                    self.infer(stream, command, charge)
                case Fetch():
                    self.fetch(stream, command)
                case Other():
                    self.other(stream, command)

    def crowd(self, at: int, nbytes: int, kind: str, said: Sequence[Infer], *, equal: bool) -> None:
        """Streams that are up to date take turns to speak, before anything starts: many meet who may run together."""
        for stream in range(len(self.oracle.streams)):
            self.take(stream, written=True, all_of_it=True)
        for place, command in enumerate(said):
            priority = said[0].priority if equal else command.priority
            self.frame(at + place, nbytes, [replace(command, kind=kind, priority=priority)], ended=False)

    def alone(self, at: int, kind: str, said: Sequence[Infer], moment: float, size: int, hurry: bool) -> None:
        """Requests that come one in a message. Each is decided on when it comes, and answered at once if it runs.

        Unless they `hurry` they may wait for each other.
        """
        if not any(stream.unary for stream in self.streams):
            self.open("other protocol", ordered=bool(at % 2), small=False)
        for place, command in enumerate(said):
            streams = [stream for stream in self.streams if stream.unary and not stream.half_closed]
            if streams:
                priority, timeout = (command.priority, command.timeout) if hurry else (0, 0.0)
                said_now = replace(command, kind=kind, defines=True, priority=priority, timeout=timeout)
                self.infer(pick(streams, at + place), said_now, self.pair.charge(10))
            self.pair.decide()
            for run in self.pair.decision.starts:
                if run.spec.direct:
                    self.pair.end(run, size, None)
            for stream in range(len(self.oracle.streams)):
                self.take(stream, written=True, all_of_it=True)
            self.oracle.now += moment

    def chain(self, at: int, of: int, nbytes: int, size: int, most: int, fails: bool) -> None:
        """A frame of Infers of which each goes on from the one before, when there is little else to do.

        The first is run, and up to `most` with those that follow.
        """
        self.pair.decide()
        self.all_end(size)
        for place in range(len(self.oracle.streams)):
            self.take(place, written=True, all_of_it=True)
        self.pair.decide()
        stream, charge = pick(self.oracle.streams, at), self.pair.charge(nbytes)
        if stream.ended or stream.half_closed:
            return
        tags: list[int] = []
        for number, call in enumerate(pick(CHAINS, of), 1):
            self.pair.define(stream, number, call, 100)
        for number in [1, 2, 2, 2]:
            known = stream.calls.get(number)
            tags.append(free_tag(stream, at))
            if known is not None:
                inline = [bytes(size) for size in known.sizes]
                sources = tags[-2:-1] * len(known.references)
                self.pair.infer(stream, tags[-1], number, inline, charge, sources, 0.0, 0)
        self.pair.decide()
        self.runs_in_place(size, most, fails)

    def run_ends(self, at: int, size: int, fails: bool, spoils: bool = False) -> None:
        if running := self.pair.running:
            self.pair.end(pick(running, at), size, Internal("the run failed") if fails else None, spoils=spoils)

    def all_end(self, size: int) -> None:
        for run in self.pair.running:
            self.pair.end(run, size, None)

    def runs_in_place(self, size: int, most: int, fails: bool) -> None:
        """What has been started is done in place, up to `most` with those that follow; the last of them may fail."""
        self.pair.end_with_followers(size, most, Internal("the run failed") if fails else None)

    def take(self, at: int, *, written: bool, all_of_it: bool) -> None:
        streams = [stream for stream in self.oracle.streams if stream.pending]
        for stream in [pick(streams, at)] if streams else []:
            while stream.pending:
                self.pair.take(stream)
                if written:
                    self.pair.written(stream)
                if not all_of_it:
                    break

    def written(self, at: int) -> None:
        if streams := [stream for stream in self.oracle.streams if stream.taken]:
            self.pair.written(pick(streams, at))

    def leave(self, at: int, vanishes: bool) -> None:
        stream = pick(self.oracle.streams, at)
        if vanishes:
            self.pair.vanish(stream)
        else:
            self.pair.half_close(stream)

    # ----------------------------------------------------------------------------------------------------- commands

    def infer(self, stream: ExpectedStream, said: Infer, charge: tuple[MessageCharge, CoreCargo]) -> None:
        call = pick(POOLS[said.kind], said.call)
        if said.kind.startswith("reference"):
            there = (each for each in rotated(POOLS[said.kind], said.call) if has_sources(stream, each))
            call = next(there, pick(INLINE, said.call))
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
        self.pair.infer(stream, tag, said.number, inline, charge, sources, said.timeout, said.priority)

    def fetch(self, stream: ExpectedStream, said: Fetch) -> None:
        outs = [(out.ticket.tag, name) for name in NAMES for out in sources_for(stream, name)]
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
