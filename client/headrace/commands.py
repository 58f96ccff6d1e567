"""Where the commands `headrace` and `headrace-server` begin.

It imports nothing of them before Ctrl-C is taken care of: importing takes a second on a busy machine, and a traceback
of half-imported modules tells nobody anything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130


def client() -> None:
    with _quiet_interrupts():
        from headrace.client.cli import main

        _warn_of_variables()
    main()


def server() -> None:
    with _quiet_interrupts():
        from headrace.server.cli import main
    main()


@contextmanager
def _quiet_interrupts() -> Iterator[None]:
    """Ctrl-C ends the process at once, and prints nothing. If it is to be ignored, it still is."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _warn_of_variables() -> None:
    """Warn of variables that neither command knows. `headrace` has none of its own: its options are flags."""
    if any(name.startswith("HEADRACE_") for name in os.environ):
        from headrace.server.environment import unknown_variables

        for name in unknown_variables(os.environ):
            print(f"headrace: {name} has no effect: options of this command are flags", file=sys.stderr)
