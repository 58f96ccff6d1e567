"""Whether the processes of a test could run, and tests that are repeated when they could not."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.stopwatch import Stopwatch

MAX_LATE_SECONDS = 0.03
MAX_BUSY_SHARE, MAX_OTHERS_SHARE = 0.8, 0.2
"""Of the processors of the machine: where they are as busy as that, what programs beside the test take is missing."""
ATTEMPTS = 3


class DisturbanceWatch(Stopwatch):
    def start(self) -> None:
        super().start()
        self._processors_before = _processors()

    def disturbance(self) -> str:
        """What has kept processes of the test from running since the start; empty if nothing has."""
        if self.latest > MAX_LATE_SECONDS:
            return f"the machine stood still for {self.latest:.2g} s"
        whole, busy, ours = (now - before for now, before in zip(_processors(), self._processors_before, strict=True))
        if busy > MAX_BUSY_SHARE * whole and busy - ours > MAX_OTHERS_SHARE * whole:
            return f"other programs took {(busy - ours) / whole:.0%} of the processors"
        return ""


def retried_if_disturbed(test: Callable[..., Any]) -> Callable[..., Any]:
    """For a test that compares what several processes measure with the clock: its bounds hold only while they run.

    If it fails though nothing has disturbed it, it fails. Otherwise it is repeated, and skipped if that does not help.
    """
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def repeated(*arguments: Any, **options: Any) -> None:
            for attempt in _attempts():
                with attempt:
                    await test(*arguments, **options)
    else:

        @functools.wraps(test)
        def repeated(*arguments: Any, **options: Any) -> None:
            for attempt in _attempts():
                with attempt:
                    test(*arguments, **options)

    return repeated


def _attempts() -> Iterator[AbstractContextManager[None]]:
    for left in reversed(range(ATTEMPTS)):
        passed = True

        @contextmanager
        def attempt(left: int = left) -> Iterator[None]:
            nonlocal passed
            with DisturbanceWatch() as watch:
                try:
                    yield
                except AssertionError:
                    why = watch.disturbance()
                    if not why:
                        raise
                    if not left:
                        pytest.skip(f"{why}, and so in each of {ATTEMPTS} attempts")
                    passed = False

        yield attempt()
        if passed:
            return


def _processors() -> tuple[float, float, float]:
    """Seconds of processors since the machine was started: all, those used, and those used by this process and its
    descendants."""
    tick = os.sysconf("SC_CLK_TCK")
    times = [int(each) / tick for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = times[3] + times[4]
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it has ended
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(folder.name))
                used[int(folder.name)] = sum(map(int, fields[11:15])) / tick  # with the children that it has waited for
    ours, found = 0.0, [os.getpid()]
    while found:
        process = found.pop()
        ours += used.get(process, 0.0)
        found += children.get(process, ())
    return sum(times), sum(times) - idle, ours
