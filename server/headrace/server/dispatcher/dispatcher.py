"""The one asyncio object: it tells the core events and the time, and carries out what the core decides.

Everything here runs on the event loop's thread, which the engine wakes from others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TypeVar

from headrace.server.core.batching import IDLE_SECONDS
from headrace.server.core.core import Core
from headrace.server.core.decision import Decision
from headrace.server.core.engine_api import End, Ended, Engine, Run
from headrace.server.core.state import Stream
from headrace.server.dispatcher.handle import StreamHandle
from headrace.wire.errors import HeadraceError, Internal, ResourceExhausted, forget_frames

POLL_SECONDS = 0.02
"""How often running slots are polled for failures, for which the runtime calls no callback."""
TURN_SECONDS = 0.002
"""How long direct runs may hold up the event loop in one of its turns, those of all streams together."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Dispatcher:
    """Drives core and engine on the event loop that it is made on; services know it as `services.api.Streams`.

    `tell` changes the core and acts; nothing else in the server changes the core but the handles it opens.
    `incident_id` names an unexpected error.
    """

    def __init__(
        self, core: Core, engine: Engine, incident_id: Callable[[BaseException], str] = lambda _: uuid.uuid4().hex[:12]
    ) -> None:
        self.core = core
        self._incident_id = incident_id
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._running: dict[Run, bool] = {}
        """True for runs that were asked to stop: their failure is expected."""
        self._handles: dict[Stream, StreamHandle] = {}
        self.rested = True
        """Set to False whenever something happens, by `act`; the memory task sets it to True."""
        self._direct_seconds = 0.0
        """How long direct runs have held up the current turn of the loop."""
        self._turn = self._put_off = 0
        """The number of the current turn, and of the one in which an act was put off."""
        self._acts_later = False
        self._waits_for_idle = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = math.inf
        """When the timer goes off."""
        self._poller: asyncio.TimerHandle | None = None
        engine.on_ended(self._wake)

    @property
    def view(self) -> Core:
        """What services may look at."""
        return self.core

    def open(self, owner: Hashable = None, *, unary: bool = False, window: int = 0) -> StreamHandle:
        """As `Core.open_stream`."""
        stream = self.core.open_stream(owner, unary=unary, window=window, now=self.now())
        handle = self._handles[stream] = StreamHandle(self, stream)
        return handle

    def request_failed(self, model: str, version: str, error: HeadraceError) -> None:
        """A request has failed before it became an Infer."""
        self.core.models.counts_of(model, version).ended("failed", error.code.name)

    def abandon(self, stream: Stream) -> None:
        """The client of a stream has gone, or has all that it came for. Harmless when repeated."""
        self._handles.pop(stream, None)
        self.core.abandon(stream, self.now())
        self.act()

    def tell(self, change: Callable[[Core, float], None]) -> None:
        """Call `change(core, now)`, then act."""
        change(self.core, self.now())
        self.act()

    def act(self) -> None:
        """Carry out what the core decides.

        Runs that happen in place are told to the core at once, which then decides again. Once they have taken
        TURN_SECONDS in this turn of the loop, further ones wait for the next turn, so that messages are read and
        written in between.
        """
        self.rested = False
        core = self.core
        began = now = self.now()
        spent = self._direct_seconds
        until = began + TURN_SECONDS - spent
        direct = now < until
        if not direct:
            self._act_later(0.0)
        try:
            decision = core.decide(now, direct=direct)
            while True:
                if decision.stops or decision.changed or decision.unload:
                    self._pass_on(decision)
                if not decision.starts or not self._start(decision, now, until):
                    break
                now = self.now()
                self._direct_seconds = spent + now - began
                if direct and now > until:
                    direct = False
                    self._act_later(0.0)
                decision = core.decide(now, direct=direct)
        except Exception as error:
            self._give_up(error)
        else:
            self._waits_for_idle = decision.waits_for_idle
            if decision.wake_at < self._wake_at:
                self._set_timer(decision.wake_at)
        if self._running and self._poller is None:
            self._poll_later()

    def turn_begins(self) -> None:
        """The event loop begins its next turn."""
        self._turn += 1
        self._direct_seconds = 0.0

    def _pass_on(self, decision: Decision) -> None:
        for run in decision.stops:
            self._running[run] = True
            self._try(partial(self._engine.cancel, run))
        for stream in decision.changed:
            handle = self._handles.get(stream)
            if handle is not None:
                handle.wake_writer()
        for spec in decision.unload:
            self._try(partial(self._engine.unload, spec))

    def _give_up(self, error: Exception) -> None:
        """The core or this object has raised by mistake: the tickets involved fail, and everything else goes on."""
        self._try(partial(self.core.give_up, self.incident(error), self.now()))
        self._act_later(POLL_SECONDS)  # not at once: it may raise again

    def _act_later(self, seconds: float) -> None:
        if not self._acts_later:
            self._acts_later = True
            self._put_off = self._turn
            self._loop.call_later(seconds, self._act_now)

    def _act_now(self) -> None:
        self._acts_later = False
        if self._turn == self._put_off:
            self.turn_begins()  # this is another turn, of a loop that does not say so
        self.act()

    def _try(self, step: Callable[[], T]) -> T | None:
        """Do one step whose failure must not keep the others from being done."""
        try:
            return step()
        except Exception as error:
            self.incident(error)
            return None

    def _start(self, decision: Decision, now: float, until: float) -> bool:
        """True when runs have ended in place, so that there may be more to start.

        After `until` runs are handed over even if they are quicker in place.
        """
        runs = decision.starts
        ends: list[End] = []
        for run in runs:
            try:
                ended = self._engine.start(run, in_place=now < until)
            except Exception as error:
                ended = Ended(run, error=error)
            if ended is None:
                self._running[run] = False
            else:
                now = self.now()
                ends.append(End(ended, self._error_for(ended), now))
        if not ends:
            return False
        if len(ends) == len(runs):
            self._try(partial(self._follow, ends, min(until, decision.wake_at)))
        self.core.ended_in_place(ends)
        return True

    def _follow(self, ends: list[End], until: float) -> None:
        """Run the followers of runs that have ended in place, as long as there is time."""
        core, engine = self.core, self._engine
        ended, _, now = ends[-1]
        while now < until and (run := core.follower(ended)) is not None:
            following = engine.follow(run)
            if following is None:
                return
            ended, now = following, self.now()
            ends.append(End(ended, None if ended.error is None else self._error_for(ended), now))

    def waits_for_clients(self) -> bool:
        """Whether nothing runs on another thread, which would need the processor."""
        return not self._running

    def idle_after(self) -> float:
        """Seconds without anything to do after which the event loop is to call `idle`."""
        return IDLE_SECONDS if self._waits_for_idle else math.inf

    def idle(self) -> None:
        """The event loop had nothing to do for that long."""
        self.core.idle()
        # Not at once: the caller is the event loop itself, which is about to wait.
        self._loop.call_soon(self.act)

    def incident(self, error: BaseException) -> HeadraceError:
        """Log an unexpected error; returns what a client is told instead: an id under which the log has the details.

        Lack of memory is nobody's mistake, and the same request may succeed later.
        """
        if isinstance(error, MemoryError):
            logger.warning("a request failed for lack of memory", exc_info=error)
            return ResourceExhausted("the server has too little memory left for this request")
        number = self._incident_id(error)
        logger.error("incident %s", number, exc_info=error)
        told = Internal(f"the server failed; its log has the details under {number}")
        told.incident = number
        return told

    def close(self) -> None:
        """Stop the timers."""
        for handle in (self._timer, self._poller):
            if handle is not None:
                handle.cancel()

    def _wake(self) -> None:
        """Called by the engine, on any thread."""
        self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._ended(self._try(self._engine.collect) or ())
        # In this order, since a slot restored while the ends are collected may not cause another wake-up.
        if restored := self._try(self._engine.restored):
            for spec, slot, replaced in restored:
                self.core.slot_restored(spec, slot, replaced=replaced)
            self.act()

    def _poll_later(self) -> None:
        """Poll for failures, again and again while anything runs: a run may fail at any time."""
        self._poller = self._loop.call_later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._poller = None
        if ended := self._try(self._engine.poll):
            self._ended(ended)
        self._poll_on()

    def _poll_on(self) -> None:
        if self._running and self._poller is None:
            self._poll_later()

    def _ended(self, runs: Iterable[Ended]) -> None:
        now = self.now()
        for ended in runs:
            stopping = self._running.pop(ended.run)
            try:
                self.core.run_ended(ended, self._error_for(ended, stopping), now)
            except Exception as error:
                self._give_up(error)
        self.act()

    def _error_for(self, ended: Ended, stopping: bool = False) -> HeadraceError | None:
        """What the tickets of a run fail with, unless it was to stop.

        Its own error then only says what it was. The frames of that refer to the run, and so to all of its inputs.
        """
        error = ended.error
        if error is None:
            return None
        failure = None if stopping else self._failure(error, len(ended.run.parts))
        forget_frames(error)
        return failure

    def _failure(self, error: Exception, parts: int) -> HeadraceError:
        if isinstance(error, HeadraceError):
            return error
        if parts > 1:
            logger.info("a batch of %d failed (%s); each runs again alone", parts, error)
            return Internal("the batch failed")
        return self.incident(error)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        # What was due may have gone or been put off; then the decision only says when to look again.
        self._timer, self._wake_at = None, math.inf
        self.act()

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._running)} running, {self.core}>"
