"""What is seen while a load test runs: on a terminal, and nowhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from headrace.client.load.progress import Progress as PhaseProgress
from headrace.client.load.report.summary import load_text
from headrace.client.load.run import Phase
from headrace.client.load.samples import Samples

PER_SECOND = 8
"""So often it is drawn."""


class Live:
    """`with Live(phases) as live`, and tell it what comes. Quiet when standard error is no terminal."""

    def __init__(self, phases: int, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._phases = phases
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False),
            TextColumn("{task.fields[left]}", style="dim"),
            console=console,
            refresh_per_second=PER_SECOND,
            transient=True,
            disable=not console.is_terminal,
            get_time=time.perf_counter,
        )
        self._task: TaskID | None = None
        self._phase: PhaseProgress | None = None
        self._begin = 0.0

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begun(self, number: int, phase: Phase, begin: float) -> None:
        """A phase begins; its measured part does so at this moment of `time.perf_counter`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._phase, self._begin = PhaseProgress(phase), begin
        where = f"{number + 1}/{self._phases}  " if self._phases > 1 else ""
        self._task = self._progress.add_task(f"{where}{load_text(phase.load)}", total=1.0, figures="", left="")

    def add(self, samples: Samples) -> None:
        """Requests of this phase have ended."""
        if self._phase is not None:
            self._phase.add(samples, time.perf_counter() - self._begin)

    def say(self, sentence: str) -> None:
        """On standard error, whether it is a terminal or not."""
        self._progress.console.print(f"headrace: {sentence}", markup=False, highlight=False, soft_wrap=True)

    def tick(self) -> None:
        """Draw what is known by now."""
        if self._phase is None or self._task is None:
            return
        now = time.perf_counter() - self._begin
        left = self._phase.left(now)
        clock = "" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left"
        figures = self._phase.text(now)
        self._progress.update(self._task, completed=self._phase.done(now), figures=figures, left=clock)
