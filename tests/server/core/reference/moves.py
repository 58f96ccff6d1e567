"""What clients, the runtime and time may do, to the core and the reference model at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from headrace.server.core import batching
from headrace.server.core import state as core_state
from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from headrace.wire.limits import MIN_MAX_MESSAGE_BYTES
from tests.server.core.reference.accounts import PROVEN_BYTES
from tests.server.core.reference.comparison import Comparison
from tests.server.core.reference.drawn import CHAINS, MAX_CALLS, MAX_STREAMS, OWNERS, WINDOW, Command, Infer, pick
from tests.server.core.reference.expected import ExpectedStream
from tests.server.core.reference.in_place import end_in_place
from tests.server.core.reference.known_calls import MODELS
from tests.server.core.reference.speaking import free_tag, speak

MAX_VARIANTS = 8


@contextmanager
def bounds(*, eager: bool) -> Iterator[None]:
    """The bounds of a walk. `eager`: tickets wait for others more often than would pay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_state, "MAX_CALLS", MAX_CALLS)
        patch.setattr(core_state, "MIN_PROVEN_BYTES", PROVEN_BYTES)
        if eager:
            patch.setattr(batching, "MIN_PAUSE", 1)
            patch.setattr(batching, "WORTHWHILE", 2)
            patch.setattr(batching, "WORTHWHILE_OF_ONE_STREAM", 2)
        yield


class Moves:
    """To be made and used inside `bounds`."""

    def __init__(
        self,
        *,
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
    ) -> None:
        limits = Limits(
            window=WINDOW,
            memory=memory,
            queue_bytes=queue,
            max_queue=most,
            max_queue_seconds=seconds,
            unsent_bytes=unsent,
            keep_bytes=keep,
            keep_bytes_total=keep_total,
            keep_seconds=2.0,
            grace=3.0,
            batch_delay=delay,
            coalesce=coalesce,
            max_priority=max_priority,
            processors=processors,
        )
        self.comparison = Comparison(limits, MODELS, MAX_CALLS)
        self.state = self.comparison.state
        self.comparison.open_stream(0, unary=False)

    @property
    def open_streams(self) -> list[ExpectedStream]:
        return [stream for stream in self.state.streams if not stream.ended]

    def open(self, owner: int, kind: str, ordered: bool, small_messages: bool) -> None:
        """A client opens a stream."""
        if len(self.open_streams) < MAX_STREAMS:
            window = WINDOW if kind == "other protocol" else 0
            stream = self.comparison.open_stream(owner, unary=kind != "native", window=window)
            if ordered or small_messages:
                self.comparison.open(stream, ordered, MIN_MAX_MESSAGE_BYTES if small_messages else 0)

    def frame(self, at: int, nbytes: int, commands: Sequence[Command], *, ended: bool) -> None:
        """Commands of one message: nothing is decided before the last of them. `ended`: on a stream that has ended."""
        streams = [stream for stream in self.state.streams if stream.ended == ended and not stream.half_closed]
        if streams:
            stream = pick(streams, at)
            charge = self.comparison.charge(stream, nbytes)
            for command in commands:
                speak(self.comparison, stream, command, charge)

    def crowd(self, at: int, nbytes: int, kind: str, commands: Sequence[Infer], *, equal: bool) -> None:
        """Streams that are up to date take turns to speak before anything starts, so that many could run together."""
        self.take_all()
        for place, command in enumerate(commands):
            priority = commands[0].priority if equal else command.priority
            self.frame(at + place, nbytes, [replace(command, kind=kind, priority=priority)], ended=False)

    def single(self, at: int, kind: str, commands: Sequence[Infer], pause: float, size: int, hurry: bool) -> None:
        """Requests that come one in a message. Each is decided on when it comes, and answered at once if it runs.

        Unless they `hurry` they may wait for each other.
        """
        if not any(stream.unary for stream in self.open_streams):
            self.open(at % OWNERS, "other protocol", ordered=bool(at % 2), small_messages=False)
        for place, command in enumerate(commands):
            streams = [stream for stream in self.open_streams if stream.unary and not stream.half_closed]
            if streams:
                priority, timeout = (command.priority, command.timeout) if hurry else (0, 0.0)
                spoken = replace(command, kind=kind, defines=True, priority=priority, timeout=timeout)
                stream = pick(streams, at + place)
                speak(self.comparison, stream, spoken, self.comparison.charge(stream, 10))
            self.comparison.decide()
            for run in self.comparison.decision.starts:
                if run.spec.direct:
                    self.comparison.end(run, size, None)
            self.take_all()
            self.state.now += pause

    def chain(self, at: int, of: int, nbytes: int, size: int, most: int, fails: bool) -> None:
        """A frame of Infers of which each goes on from the one before, when there is little else to do.

        The first is run, and up to `most` with its followers.
        """
        self.comparison.decide()
        self.all_end(size)
        self.take_all()
        self.comparison.decide()
        stream = pick(self.state.streams, at)
        charge = self.comparison.charge(stream, nbytes)
        if stream.ended or stream.half_closed:
            return
        tags: list[int] = []
        for number, call in enumerate(pick(CHAINS, of), 1):
            self.comparison.define(stream, number, call, 100)
        for number in [1, 2, 2, 2]:
            known = stream.calls.get(number)
            tags.append(free_tag(stream, at))
            if known is not None:
                inline = [bytes(size) for size in known.sizes]
                sources = tags[-2:-1] * len(known.references)
                self.comparison.infer(stream, tags[-1], number, inline, charge, sources, (), 0.0, 0)
        self.comparison.decide()
        self.runs_in_place(size, most, fails)

    def vary(self, at: int, of: int, *, removes: bool, direct: bool) -> None:
        """A variant of a model is made, or, if it `removes`, there is one less."""
        if removes and self.state.variants:
            self.comparison.remove_variant(at)
        elif len(self.state.variants) < MAX_VARIANTS:
            spec = pick([spec for spec in MODELS if len(spec.outputs) > 1], at)
            count = len(spec.outputs)
            chosen = 1 + of % (2**count - 2)  # neither none nor all
            kept = tuple(index for index in range(count) if chosen >> index & 1)
            outputs = tuple(spec.outputs[index] for index in kept)
            batch = 1 + at % spec.batch
            self.comparison.add_variant(
                spec, replace(spec, outputs=outputs, pruned_to=kept, direct=direct, batch=batch, slots=1 + of % 2)
            )

    def run_ends(self, at: int, size: int, fails: bool, spoils: bool = False) -> None:
        if running := self.comparison.running:
            error = Internal("the run failed") if fails else None
            self.comparison.end(pick(running, at), size, error, spoils=spoils)

    def all_end(self, size: int) -> None:
        for run in self.comparison.running:
            self.comparison.end(run, size, None)

    def runs_in_place(self, size: int, most: int, fails: bool) -> None:
        """What was started is done in place, up to `most` runs with their followers; the last of them may fail."""
        end_in_place(self.comparison, size, most, Internal("the run failed") if fails else None)

    def take(self, at: int, *, flush: bool, all_of_it: bool) -> None:
        """The transport takes a frame of a stream, or `all_of_it`, and may `flush` each at once."""
        streams = [stream for stream in self.state.streams if stream.outbox]
        for stream in [pick(streams, at)] if streams else []:
            while stream.outbox:
                self.comparison.take(stream)
                if flush:
                    self.comparison.flush(stream)
                if not all_of_it:
                    break

    def take_all(self) -> None:
        for place in range(len(self.state.streams)):
            self.take(place, flush=True, all_of_it=True)

    def flush(self, at: int) -> None:
        if streams := [stream for stream in self.state.streams if stream.taken]:
            self.comparison.flush(pick(streams, at))

    def leave(self, at: int, vanishes: bool) -> None:
        stream = pick(self.state.streams, at)
        if vanishes:
            self.comparison.abandon(stream)
        else:
            self.comparison.half_close(stream)
