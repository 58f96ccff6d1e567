"""Direct runs: in place, on the caller's thread, where that is quicker than handing the run over.

An asynchronous run costs a thread hop on top of its own time: to a thread of the runtime and back to the event loop. A
run that takes less than a hop finishes sooner in place, and several times sooner on a model compiled for it. While a
run is in place every other client waits, so a run is done in place only where it has been measured: at this size, on
this slot, with shapes that the slot has run before (the first run of a new shape may take a hundred times as long).
"""

from __future__ import annotations

THREAD_HOP_SECONDS = 400e-6
"""A run that takes longer is handed over. Handing over to the runtime's thread and back to an event loop that has other
work costs 0.1 to 0.7 ms: a chain of runs of 0.16 ms made 1.1 k/s handed over and 3.3 k/s in place."""
MAX_DIRECT_SECONDS = 2 * THREAD_HOP_SECONDS
"""A direct run that takes longer is *slow*: because of its data (denormal numbers take fifty times as long), or because
other processes had the processor. The time of the processor tells, which costs 0.7 us to read, so it is read only after
a slow run."""
WATCHED_RUNS = 32
"""Runs after a slow one in which a second one, by the time of the processor, ends the direct runs of its shapes."""
MAX_PROBED_SECONDS = 2e-3
"""A run that took longer asynchronously, hop included, is not even tried in place."""
MAX_SLOW_PROBES = 3
"""A busy machine can make one run look slow, but hardly three in a row."""
RUNS_PER_PROBE = 256
"""Asynchronous runs after which shapes that were too slow are tried in place once more, in case the machine was
busy."""
MAX_KNOWN_SHAPES = 1024
"""When there are more, all are forgotten. Each run looks its shapes up, and keeping them in the order of their last use
would double the time of that."""


class RunTimes:
    """How long a slot's runs take, by the shapes of their inputs."""

    def __init__(self) -> None:
        self._best: dict[object, tuple[float, float]] = {}
        """The shortest time in seconds, and the number of slow probes."""
        self.suspects: dict[object, int] = {}
        """Shapes of fast runs of which one was slow lately, and for how many more runs they are watched."""

    def may_run_in_place(self, shapes: object) -> bool:
        """Whether a run with these shapes may be done in place, be it as a probe."""
        known = self._best.get(shapes)
        return known is not None and (known[0] < THREAD_HOP_SECONDS or known[1] <= MAX_SLOW_PROBES - 1)

    def is_fast(self, shapes: object) -> bool:
        """Whether a run with these shapes is known to take less than a hop."""
        known = self._best.get(shapes)
        return known is not None and known[0] < THREAD_HOP_SECONDS

    def record_async(self, shapes: object, seconds: float) -> None:
        """Note that an asynchronous run has completed, `seconds` after its start."""
        known = self._best.get(shapes)
        if known is not None:
            self._best[shapes] = (known[0], known[1] - 1 / RUNS_PER_PROBE)
        elif seconds < MAX_PROBED_SECONDS:
            if len(self._best) == MAX_KNOWN_SHAPES:
                self._best.clear()
                self.suspects.clear()
            self._best[shapes] = (seconds, 0)

    def record_direct(self, shapes: object, seconds: float, processor_seconds: float = 0.0) -> None:
        """Note that a direct run has taken `seconds`, and how many of the processor while there are suspects.

        Of fast shapes only slow runs matter, and all of them while there are suspects.
        """
        best, probes = self._best[shapes]
        if best >= THREAD_HOP_SECONDS:
            self._best[shapes] = (min(best, seconds), probes + 1)
        elif shapes in self.suspects:
            if processor_seconds > MAX_DIRECT_SECONDS:
                del self.suspects[shapes]
                self._best[shapes] = (seconds, MAX_SLOW_PROBES)  # as if it had always been slow
            elif self.suspects[shapes] == 1:
                del self.suspects[shapes]
            else:
                self.suspects[shapes] -= 1
        elif seconds > MAX_DIRECT_SECONDS:
            self.suspects[shapes] = WATCHED_RUNS
