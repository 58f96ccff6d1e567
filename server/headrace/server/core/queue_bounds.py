"""How many tickets may wait for the slots of a model, and for how long.

Where more arrives than a model can do, a queue only makes everybody wait: whoever would wait too long is better told at
once, and may ask elsewhere. So a ticket is refused when as many wait as may, or when it would wait longer than it may,
and fails when it has waited that long nevertheless. Nothing is computed for any of them.

What counts are tickets that have all they need but a slot, beyond those that start at once. Not counted are

- tickets that wait for their sources, or behind others of their sequence. A chain, or a sequence that has begun, counts
  by its one ticket that waits for a slot; what was computed for it would be lost if the next one were refused;
- tickets that cannot start because their client does not read. They wait for nobody else.

A full queue does not keep out those who are entitled to more. A ticket makes room for one of a higher priority, and the
client that has most of the tickets for one that has far fewer: otherwise whoever asks most often would get every place.

How long a ticket would wait follows from how many have their turns before it and from the *pace* of the model: the time
between the ends of tickets while others wait. It counts whatever holds them up, such as other models.
"""

from __future__ import annotations

from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.wire.errors import ResourceExhausted, quote

MEMORY = 31 / 32
"""What is left of each end's part in the pace when the next run has ended."""
MIN_RETRY_SECONDS = 1e-3


class Pace:
    """How fast a model ends tickets while others wait."""

    __slots__ = ("_busy_since", "_seconds", "_tickets")

    def __init__(self) -> None:
        self._seconds = self._tickets = 0.0
        self._busy_since = -1.0
        """When a run ended while tickets waited, so that no slot was free after it; negative if none did."""

    @property
    def seconds(self) -> float:
        """For a ticket; 0 while it is not known."""
        return self._seconds / self._tickets if self._tickets else 0.0

    def ended(self, tickets: int, running: float, runs: int, now: float, *, waiting: bool) -> None:
        """A run of so many tickets has ended after `running` seconds. `runs` are in progress with it."""
        since = self._busy_since
        if since >= 0.0:
            self._seconds = self._seconds * MEMORY + (now - since)
            self._tickets = self._tickets * MEMORY + tickets
        elif waiting and not self._tickets:
            self._seconds, self._tickets = running / runs, float(tickets)
        self._busy_since = now if waiting else -1.0

    def __repr__(self) -> str:
        return f"<Pace {self.seconds * 1e3:.3f} ms a ticket>"


class QueueBounds:
    """The bounds of the queue of a model, `most` tickets and `seconds`, 0 for none."""

    __slots__ = ("_model", "most", "pace", "seconds")

    def __init__(self, spec: ModelSpec, limits: Limits) -> None:
        self.most = limits.max_queue if spec.max_queue is None else spec.max_queue
        self.seconds = limits.max_queue_seconds if spec.max_queue_seconds is None else spec.max_queue_seconds
        self.pace = Pace()
        self._model = quote(spec.name)

    @property
    def exist(self) -> bool:
        return self.most > 0 or self.seconds > 0.0

    def is_too_slow(self, before: int) -> bool:
        """Whether a ticket would wait too long. `before` of those that wait have to start earlier.

        Where none has, it is not too long, whatever is known: so the pace is measured again.
        """
        return before > 0 and (before + 1) * self.pace.seconds > self.seconds > 0.0

    def full(self, waiting: int) -> ResourceExhausted:
        """Why a ticket is refused, or makes room for another one."""
        return self._refused(f"{waiting} tickets wait for model {self._model}, which is the limit", waiting / 2)

    def too_slow(self, before: int) -> ResourceExhausted:
        """Why a ticket is refused."""
        wait = (before + 1) * self.pace.seconds
        return self._refused(
            f"a ticket would wait {wait:.3f} s for model {self._model}, and the limit is {self.seconds:g} s",
            before + 1 - self.seconds / self.pace.seconds,
        )

    def waited(self, tag: int, waited: float, waiting: int) -> ResourceExhausted:
        """Why a ticket fails that was not refused."""
        return self._refused(
            f"ticket {tag} has waited {waited:.3f} s for model {self._model}, and the limit is {self.seconds:g} s",
            waiting / 2,
        )

    def _refused(self, why: str, tickets: float) -> ResourceExhausted:
        """With the hint to come back when so many tickets have ended; in the message too, for clients of Triton's."""
        seconds = tickets * self.pace.seconds
        if not seconds:
            return ResourceExhausted(f"{why}; try again later")
        seconds = max(seconds, MIN_RETRY_SECONDS)
        return ResourceExhausted(f"{why}; try again in {seconds:.3f} s", retry_after=seconds)

    def __repr__(self) -> str:
        return f"<QueueBounds {self.most} tickets, {self.seconds:g} s, {self.pace}>"
