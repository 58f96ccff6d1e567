"""What is measured when a model is loaded holds for all workers, whatever else the machine does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from headrace.client import blocking
from tests import models
from tests.e2e.serving import Serve, Served
from tests.scale.processes import pids_of, wait_until

HOGS = 4
BUILDS = (models.add_multiply, models.scale, models.image, models.scores)
"""Of these, some run directly, and batches of some may pay off."""


@contextmanager
def hogs() -> Iterator[None]:
    """Programs that take whatever processor time they get."""
    with ExitStack() as stack:
        for _ in range(HOGS):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


Decision = tuple[object, ...]


def decision(model: blocking.Model) -> Decision:
    batches = model.batch, model.batch_reason
    return model.name, model.direct, model.direct_reason, *batches, model.slots, model.streams, model.threads


def decisions(served: Served) -> set[tuple[Decision, ...]]:
    """How models run, by what all workers say: connections are made until each of them has had one."""
    found: set[tuple[Decision, ...]] = set()
    for _ in range(60):
        with blocking.connect(served.address) as server:
            server.infer("scale", {"x": np.ones(1, np.float32)})
            found.add(tuple(map(decision, server.models())))
            if all(each.inferences for each in server.status().workers):
                return found
    raise AssertionError("60 connections have not come to 3 workers")


@pytest.mark.timeout(300)
def test_decisions_are_equal_on_all_workers_while_the_processor_is_busy(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_CACHE_DIR")  # nothing is known, and only workers that know each other decide alike
    paths = [str(build(tmp_path)) for build in BUILDS]
    with hogs():
        served = serve(*paths, "--workers=3")
        assert served.log.count("tried in") == len(BUILDS)  # by the first worker alone
        assert served.log.count("its trial is known") == 2 * len(BUILDS)
        first = decisions(served)
        for pid in pids_of(served.process.pid)[:2]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: served.log.count(" is back") == 2, "replaced")
        later = decisions(served)
    assert served.log.count("tried in") == len(BUILDS)
    (decided,) = first | later
    print(*("", *decided), sep="\n")
