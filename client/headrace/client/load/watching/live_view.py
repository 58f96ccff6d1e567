"""The view of a running load test, on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from headrace.client.load.planning.phases import Phase
from headrace.client.load.record.samples import Samples
from headrace.client.load.report.progress import PhaseProgress
from headrace.client.load.report.summary import load_text

REFRESHES_PER_SECOND = 8


class LiveView:
    """A progress bar with the latest figures, as a context manager. Hidden if standard error is not a terminal."""

    def __init__(self, phases: int | None, console: Console | None = None) -> None:
        """`phases`: how many there will be; None if that is not known."""
        console = console or Console(stderr=True)
        self._phases = phases
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            disable=not console.is_terminal,
            get_time=time.perf_counter,
        )
        self._task: TaskID | None = None
        self._phase: PhaseProgress | None = None
        self._start = 0.0

    def __enter__(self) -> LiveView:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start_phase(self, number: int, phase: Phase, start: float) -> None:
        """Show a new phase. `start`: when its measured part starts, by `time.perf_counter()`."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._phase, self._start = PhaseProgress(phase), start
        if self._phases is None:
            position = f"trial {number + 1}  "
        else:
            position = f"{number + 1}/{self._phases}  " if self._phases > 1 else ""
        self._task = self._bar.add_task(f"{position}{load_text(phase.load)}", total=1.0, figures="", left="")

    def add(self, samples: Samples) -> None:
        """Count requests of the current phase that have ended."""
        if self._phase is not None:
            self._phase.add(samples, time.perf_counter() - self._start)

    def print_message(self, sentence: str) -> None:
        """Print to standard error, whether it is a terminal or not."""
        self._bar.console.print(f"headrace: {sentence}", markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Show the latest figures."""
        if self._phase is None or self._task is None:
            return
        now = time.perf_counter() - self._start
        left = self._phase.seconds_left(now)
        clock = "" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left"
        figures = self._phase.text(now)
        self._bar.update(self._task, completed=self._phase.fraction_done(now), figures=figures, left=clock)
