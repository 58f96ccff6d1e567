"""How streams end that their clients do not end: all of them when the server stops, and each when it is old.

A stream that is old is asked to move, so that servers which are new get work. Nothing fails by that: its Infers are
admitted until its client has half-closed it, or the grace period is over, and those in flight go on. A stream that
keeps outputs which its client cannot make again is left alone until it keeps none.
"""

from __future__ import annotations

import math

from headrace.server.core.completion import Completion
from headrace.server.core.counts import Counts
from headrace.server.core.events import Draining
from headrace.server.core.limits import Limits
from headrace.server.core.state import Stream

JITTER = 0.5
"""Streams are asked to move up to this part of their age early: those that were opened at once do not move at once."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, without their whole part, are spread more evenly than random numbers, however many there are."""
AGAIN = 0.1
"""The part of an age after which a stream is looked at again that could not be asked to move."""
AGAIN_SECONDS = 1.0
"""Or this, if it is more."""


class StreamEnds:
    def __init__(self, limits: Limits, completion: Completion, counts: Counts) -> None:
        self._limits = limits
        self._completion = completion
        self._counts = counts
        self._opened = 0

    def opened(self, stream: Stream, now: float) -> None:
        """A stream begins to age, if its protocol can ask it to move."""
        if self._limits.stream_seconds and not stream.unary:
            self._opened += 1
            early = JITTER * (self._opened * GOLDEN % 1.0)
            self._completion.ages.set(stream, now + self._limits.stream_seconds * (1.0 - early))

    def drain(self, stream: Stream) -> None:
        """The server stops: admit no more Infers."""
        stream.draining = True
        if not stream.unary:
            self._completion.put(stream, Draining(self._limits.grace, stream_only=False))
        elif not stream.single:
            self._completion.maybe_end(stream)

    def ask_to_move(self, stream: Stream, now: float) -> None:
        """No effect on one that was asked before, that ends anyway, or whose protocol cannot say it."""
        if stream.asked_to_move or stream.draining or stream.half_closed or stream.ended or stream.unary:
            return
        stream.asked_to_move = True
        self._counts.asked_to_move += 1
        self._completion.put(stream, Draining(self._limits.grace, stream_only=True))
        self._look_later(stream, now + self._limits.grace)

    def expire(self, now: float) -> None:
        """Look at the streams that are old enough, or whose grace period is over."""
        for stream in self._completion.ages.pop(now):
            if stream.half_closed or stream.draining:
                continue
            if stream.keeps and not stream.can_move:
                pause = AGAIN * (self._limits.stream_seconds or self._limits.grace)
                self._look_later(stream, now + max(pause, AGAIN_SECONDS))
            elif stream.asked_to_move:
                stream.draining = True
                self._completion.maybe_end(stream)
            else:
                self.ask_to_move(stream, now)

    def _look_later(self, stream: Stream, due: float) -> None:
        if due < math.inf:
            self._completion.ages.set(stream, due)

    def __repr__(self) -> str:
        return f"<StreamEnds: {len(self._completion.ages)} streams age>"
