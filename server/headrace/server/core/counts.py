"""What the server has done, as plain numbers, of which metrics are made when somebody asks for them.

Whoever has several tickets at hand counts those at once that have the same times: adding to a histogram takes as long
as a tenth of all that the core does for a small inference.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable

from headrace.server.core.specs import MAX_BATCH
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import HeadraceError

SECONDS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds for what happens to a request: from a direct run of a tiny model up to a queue that nobody waits for."""
LOAD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Bounds for the commands or events of a frame."""

DONE = "done", "OK"
REFUSED = "refused"
"""The outcome of what was not admitted. The others are the names of the states in which a ticket ends."""
REASONS = ("window", "ticket_memory", "input_memory", "draining", "queue", "client", "tag", "content")
"""Why something is not admitted."""
KINDS = ("frames", "requests", "unary")
"""What a stream carries: frames, single requests of another protocol, or one unary call."""
MAX_KNOWN_CONNECTIONS = 8192

End = tuple[str, str]
"""An outcome, and the name of a code."""


class Histogram:
    """How many values are above one of the bounds and at most the next; the last count is of those above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __repr__(self) -> str:
        return f"<Histogram {self.count} values, {self.sum:g} in total>"


class Span:
    """The times of tickets of a model that have arrived together and ended together, with a result."""

    __slots__ = ("arrived", "counts", "ended")

    def __init__(self, counts: ModelCounts, arrived: float, ended: float) -> None:
        self.counts = counts
        self.arrived = arrived
        self.ended = ended


class ModelCounts:
    """What one version of a model has done, also before it was loaded again.

    `done` and `failed` are its Infers that have ended, and `handed_off` those of them whose terminal event the
    transport has; `ends` counts all without a result by outcome and code, also those that never needed the model.
    Histograms are of the Infers with a result, and of their runs. Those that did not wait for a source are not in
    `waiting`. What is added to them for every run is spelled out: a call would cost as much again.
    """

    __slots__ = (
        "direct_runs",
        "done",
        "duration",
        "ends",
        "failed",
        "handed_off",
        "pruned_runs",
        "queued",
        "replaced",
        "restored",
        "running",
        "runs",
        "sending",
        "waiting",
    )

    def __init__(self) -> None:
        self.done = self.failed = self.handed_off = 0
        self.ends: dict[End, int] = {}
        self.waiting, self.queued = Histogram(SECONDS), Histogram(SECONDS)
        self.running, self.sending = Histogram(SECONDS), Histogram(SECONDS)
        self.duration = Histogram(SECONDS)
        self.runs = [0] * (MAX_BATCH + 1)
        """Runs with a result, by the number of tickets that have shared them."""
        self.direct_runs = self.pruned_runs = 0
        self.restored = self.replaced = 0

    def ended(self, outcome: str, code: str) -> None:
        """A request has ended without a result."""
        end = (outcome, code)
        self.ends[end] = self.ends.get(end, 0) + 1

    def started(self, tickets: int, arrived: float, ready: float, started: float) -> float:
        """Tickets that now have a result had arrived, become ready and started together.

        Returns the sum of the seconds from their arrival to their start.
        """
        queued, seconds = self.queued, started - ready
        queued.counts[bisect_left(SECONDS, seconds)] += tickets
        queued.sum += seconds * tickets
        if ready > arrived:
            self.waiting.add(ready - arrived, tickets)
        return tickets * (started - arrived)

    def ran(self, shared: int, done: int, seconds: float, direct: bool) -> None:
        """A run of `shared` tickets has a result for `done` of them."""
        self.done += done
        self.runs[shared] += 1
        if direct:
            self.direct_runs += 1
        running = self.running
        running.counts[bisect_left(SECONDS, seconds)] += done
        running.sum += seconds * done

    def sent(self, tickets: int, span: Span, now: float) -> None:
        """The transport has the terminal events of these tickets."""
        self.handed_off += tickets
        sending, seconds = self.sending, now - span.ended
        sending.counts[bisect_left(SECONDS, seconds)] += tickets
        sending.sum += seconds * tickets
        duration, seconds = self.duration, now - span.arrived
        duration.counts[bisect_left(SECONDS, seconds)] += tickets
        duration.sum += seconds * tickets

    def __repr__(self) -> str:
        return f"<ModelCounts {self.done} done, {self.failed} failed, {self.handed_off} handed off>"


class Counts:
    """What the server has done, apart from what `ModelCounts` has."""

    __slots__ = (
        "asked_to_move",
        "connections",
        "fetches",
        "frame_commands",
        "frame_events",
        "loads",
        "rejected",
        "streams",
    )

    def __init__(self) -> None:
        self.fetches: dict[End, int] = {DONE: 0}
        self.rejected = dict.fromkeys(REASONS, 0)
        self.streams = dict.fromkeys(KINDS, 0)
        """How many were opened."""
        self.asked_to_move = 0
        """How many streams."""
        self.connections = Connections()
        self.frame_commands, self.frame_events = Histogram(ITEMS), Histogram(ITEMS)
        self.loads = {outcome: Histogram(LOAD_SECONDS) for outcome in ("loaded", "failed")}

    def opened(self, kind: str, owner: Hashable) -> None:
        """A stream has been opened."""
        self.streams[kind] += 1
        self.connections.note(owner)

    def fetched(self, end: End) -> None:
        """A Fetch has ended."""
        self.fetches[end] = self.fetches.get(end, 0) + 1

    def __repr__(self) -> str:
        return f"<Counts {sum(self.streams.values())} streams opened, {sum(self.rejected.values())} rejected>"


class Connections:
    """Counts connections by what their streams have in common. One that has not opened a stream for as long as so many
    others did counts again."""

    __slots__ = ("_known", "_last", "opened")

    def __init__(self) -> None:
        self.opened = 0
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._last: Hashable = None

    def note(self, owner: Hashable) -> None:
        """A stream of this owner has been opened."""
        if owner == self._last:
            return
        self._last = owner
        if owner in self._known:
            self._known.move_to_end(owner)
            return
        self.opened += 1
        self._known[owner] = None
        if len(self._known) > MAX_KNOWN_CONNECTIONS:
            self._known.popitem(last=False)


def kind_of(*, unary: bool, single: bool) -> str:
    """One of KINDS, by the attributes of a stream."""
    return "unary" if single else "requests" if unary else "frames"


def end_of(state: TicketState, error: HeadraceError) -> End:
    """The outcome and the code of a ticket that has ended without a result."""
    if state is TicketState.CANCELLED:
        return "cancelled", "CANCELLED"
    if state is TicketState.EXPIRED:
        return "expired", "DEADLINE_EXCEEDED"
    return "failed", error.code.name
