"""Waiting for what tells nobody: another process, the kernel, or a thread of the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 60.0
"""It only ends what hangs, on a machine that has much else to do."""


def until(
    look: Callable[[], T], missing: Callable[[], object] = lambda: "it does not happen", seconds: float = LIMIT_SECONDS
) -> T:
    """What `look` returns as soon as that is true of it. Fails with what `missing` says after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, missing()
        time.sleep(0.01)
    return found
