"""Whether what took too long had the processor meanwhile.

What a probe finds decides how a model runs until the server ends, and, with a cache, in the servers after it. A machine
that stands still for half a second, or starts ten servers at once, must not decide it.
"""

from __future__ import annotations

from time import perf_counter, process_time

MAX_ATTEMPTS = 3
"""How often to try what takes too long while the process is starved."""
MIN_SHARE = 0.5
"""Of one processor: threads of the runtime that compute get more, unless other programs do."""


class ProcessorShare:
    """What this process gets of the processor from now on."""

    def __init__(self) -> None:
        self._began, self._used = perf_counter(), process_time()

    @property
    def starved(self) -> bool:
        """Whether it had so little that the time that has passed says nothing about the model."""
        return process_time() - self._used < MIN_SHARE * (perf_counter() - self._began)
