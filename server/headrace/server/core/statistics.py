"""Counts and times of a model since it was loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Runs:
    """Runs shared by the same number of tickets; the times are sums of seconds."""

    count: int = 0
    input: float = 0.0
    infer: float = 0.0
    output: float = 0.0


class Statistics:
    """Counts and seconds. All but `fail` cover the inferences that had a result.

    `inferences` is their number, `last` the time when the last of them ended; None before the first. `refused` are the
    Infers that the bounds of its queue have kept out, and `overdue` the tickets that they have ended: those also count
    among `fail`.
    """

    __slots__ = (
        "_failed",
        "_failures",
        "_infer",
        "_input",
        "_output",
        "_queued",
        "_runs",
        "_succeeded",
        "inferences",
        "last",
        "overdue",
        "refused",
    )

    def __init__(self) -> None:
        self.inferences = 0
        self.last: float | None = None
        self.refused = self.overdue = self._failures = 0
        self._failed = self._succeeded = self._queued = 0.0
        self._input = self._infer = self._output = 0.0
        self._runs: dict[int, _Runs] = {}
        """By the number of tickets that share a run."""

    def ran(
        self,
        shared: int,
        done: int,
        queued: float,
        running: float,
        times: tuple[float, float, float],
        now: float,
    ) -> None:
        """A run of `shared` tickets has ended with a result for `done` of them.

        `queued` is the sum of the times these waited for it, `running` its duration, `times` are `Ended.times`.
        """
        self.inferences += done
        self.last = now
        self._queued += queued
        self._succeeded += queued + done * running
        taken, inferred, read = times
        self._input += done * taken
        self._infer += done * inferred
        self._output += done * read
        runs = self._runs.get(shared)
        if runs is None:
            runs = self._runs[shared] = _Runs()
        runs.count += 1
        runs.input += taken
        runs.infer += inferred
        runs.output += read

    def failed(self, seconds: float) -> None:
        """A ticket has ended without a result, `seconds` after it arrived."""
        self._failures += 1
        self._failed += seconds

    @property
    def success(self) -> tuple[int, float]:
        """From arrival to the end."""
        return self.inferences, self._succeeded

    @property
    def fail(self) -> tuple[int, float]:
        """Tickets that ended without a result, and the seconds from their arrival until then."""
        return self._failures, self._failed

    @property
    def queue(self) -> tuple[int, float]:
        """From arrival to the start of the run, waiting for sources included."""
        return self.inferences, self._queued

    @property
    def input(self) -> tuple[int, float]:
        """Setting inputs. Here and below, each ticket that shares a run counts the whole run."""
        return self.inferences, self._input

    @property
    def infer(self) -> tuple[int, float]:
        """Computing."""
        return self.inferences, self._infer

    @property
    def output(self) -> tuple[int, float]:
        """Reading outputs."""
        return self.inferences, self._output

    @property
    def executions(self) -> int:
        """Runs that had a result for at least one ticket."""
        return sum(runs.count for runs in self._runs.values())

    @property
    def batches(self) -> dict[int, tuple[int, float, float, float]]:
        """These runs by the number of tickets that shared them: count, and input, infer and output seconds."""
        return {
            shared: (runs.count, runs.input, runs.infer, runs.output) for shared, runs in sorted(self._runs.items())
        }

    def __repr__(self) -> str:
        return f"<Statistics {self.inferences} inferences in {self.executions} runs, {self._failures} failed>"
