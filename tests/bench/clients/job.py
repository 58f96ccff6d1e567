"""The job of a client process, and how it reports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Job:
    target: str
    seconds: float
    options: dict[str, Any]
    began: float = 0.0
    processor: float = 0.0

    def begin(self) -> float:
        """Wait for the signal to begin. Returns the moment of `time.perf_counter` at which to end.

        This blocks, on purpose: until then nothing is to happen in this process.
        """
        print("ready", flush=True)
        sys.stdin.readline()
        self.processor, self.began = time.process_time(), time.perf_counter()
        return self.began + self.seconds

    def report(self, requests: int, took: Sequence[float] = (), **beside: float) -> None:
        """Say what was answered between `begin` and now, and how long each request took in seconds, if known."""
        seconds, processor = time.perf_counter() - self.began, time.process_time() - self.processor
        ordered = sorted(took)
        report = {"requests": requests, "seconds": seconds, "processor_seconds": processor, "beside": beside}
        print(json.dumps(report | {"p50": _quantile(ordered, 0.5), "p99": _quantile(ordered, 0.99)}), flush=True)


def job() -> Job:
    """The job on the command line."""
    return Job(**json.loads(sys.argv[1]))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[int(share * (len(ordered) - 1))] if ordered else None
