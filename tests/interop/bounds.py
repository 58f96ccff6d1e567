"""What an attack may do to a server while it lasts: take a bounded amount of memory, and no answers of others."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.serving import Served
from tests.interop.inferences import Bystander

MIB = 1 << 20
PEAK_BYTES = 64 * MIB
"""What a flood may add to the server's memory while it lasts."""
CALLS_BYTES = 256 * MIB
"""What thousands of calls may add to it: each takes some 12 KiB while gRPC has it."""


@contextmanager
def bounded(served: Served, bystander: Bystander, most: int = PEAK_BYTES) -> Iterator[None]:
    """While others attack, another client gets right answers all the time, and memory stays bounded."""
    status = Path(f"/proc/{served.process.pid}/status")
    Path(f"/proc/{served.process.pid}/clear_refs").write_text("5")  # the peak is measured from here
    before, over = _peak(status), threading.Event()

    def ask() -> int:
        for answered in itertools.count():
            if over.is_set():
                return answered
            bystander.is_served()
        raise AssertionError

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            over.set()
        assert asking.result()
    assert _peak(status) - before < most


def _peak(status: Path) -> int:
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
