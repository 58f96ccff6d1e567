"""What code takes by itself, whatever else the process does."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Processor time of this thread, without collections: one of all that other tests have left takes 0.3 s."""
    gc.disable()
    try:
        began = time.thread_time()
        yield
        assert time.thread_time() - began < seconds
    finally:
        gc.enable()
