"""A client of its own process that asks every millisecond whether a server lives, and watches the server's memory.

    python -m tests.costs.pinger ADDRESS PID

Prints a line of JSON for each line that it reads: what it has seen since the line before.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from resource import getpagesize

import grpc

from tests.stopwatch import Stopwatch

PERIOD = 0.001
LIVE = "/inference.GRPCInferenceService/ServerLive"


class Watch:
    """What has been seen since the last `take`. A thread samples the memory, and another pings."""

    def __init__(self, address: str, pid: int) -> None:
        self._memory = Path(f"/proc/{pid}/statm")
        channel = grpc.insecure_channel(address)
        self._ping: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIVE)
        self._pings: list[float] = []
        self._last = self._peak = self._resident()
        self._ping(b"", timeout=30)
        for work in (self._sample, self._ping_on):
            threading.Thread(target=work, daemon=True).start()

    def take(self) -> dict[str, float]:
        """Milliseconds that pings took, and bytes of memory. Waits for the ping under way, which may be a long one."""
        seen = len(self._pings)
        while len(self._pings) == seen:
            time.sleep(PERIOD)
        pings, self._pings = self._pings, []
        before, self._last = self._last, self._resident()
        peak, self._peak = max(self._peak, self._last), self._last
        # As if a ping had been sent every period: one that takes long stands for all that would have waited with it.
        times = sorted(took - waited * PERIOD for took in pings for waited in range(1 + int(took / PERIOD)))
        return {
            "p99_ms": 1e3 * times[int(0.99 * len(times))],
            "max_ms": 1e3 * times[-1],
            "before": before,
            "peak": peak,
        }

    def _ping_on(self) -> None:
        with Stopwatch() as watch:
            while True:
                watch.start()
                self._ping(b"", timeout=60)
                self._pings.append(watch.ran())
                time.sleep(PERIOD)

    def _sample(self) -> None:
        while True:
            self._peak = max(self._peak, self._resident())
            time.sleep(2 * PERIOD)

    def _resident(self) -> int:
        return int(self._memory.read_text().split()[1]) * getpagesize()


def main() -> None:
    watch = Watch(sys.argv[1], int(sys.argv[2]))
    for _ in sys.stdin:
        print(json.dumps(watch.take()), flush=True)


if __name__ == "__main__":
    main()
