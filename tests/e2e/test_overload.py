"""A model at several times its capacity, by every kind of client: the slots stay busy, the rest is refused at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import headrace.client.blocking as hc
from tests import models
from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Served, serving

SLOTS = 2
LONGEST_WAIT = 2.0
RATE, SECONDS = 80, 3
"""Requests a second. A run takes 60 ms on one thread of a machine that has nothing else to do."""
WAYS = {"frames": [], "unary": ["--protocol=oip", "--mode=unary"], "stream": ["--protocol=oip"]}


Counts = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("overload")
    options = [f"--slots={SLOTS}", "--property=INFERENCE_NUM_THREADS=1", "--run=async", "--transport=completion-queue"]
    bounds = ["--max-queue=12", f"--max-queue-seconds={LONGEST_WAIT}"]
    with serving(folder) as start:
        yield start(f"slow={models.slow(folder, 3)}", *options, *bounds)


def counts(served: Served) -> Counts:
    """Of the model, since it was loaded: runs, tickets that are done, that have failed, and that were refused."""
    with hc.connect(served.address) as server:
        (model,) = server.status().models
    assert model.failures == model.overdue
    return model.executions, model.inferences, model.overdue, model.refused


def overload(served: Served, *options: str) -> dict[str, Any]:
    """What an open loop reports."""
    load = ["load", served.address, "slow", "--json", f"--rate={RATE}/s", f"--duration={SECONDS}", "--warmup=0"]
    command = [sys.executable, "-m", "headrace.client", *load, *options]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    (phase,) = report["runs"][0]["phases"]
    return phase  # type: ignore[no-any-return]  # JSON


@pytest.mark.parametrize("way", WAYS)
@retried_if_disturbed
def test_a_model_goes_on_doing_what_it_can(way: str, served: Served) -> None:
    before = counts(served)
    phase = overload(served, *WAYS[way])
    runs, done, overdue, refused = (now - then for now, then in zip(counts(served), before, strict=True))
    assert phase["sent"] == RATE * SECONDS
    (errors,) = phase["errors"]
    assert errors["code"] == "RESOURCE_EXHAUSTED"
    assert "try again" in errors["first_message"]
    assert (done, refused + overdue) == (phase["ok"], errors["count"])
    assert done + refused + overdue == phase["sent"], "each has ended once"
    assert runs == done, "nothing was computed in vain"
    assert phase["where"]["queue_ms"] < 1000 * LONGEST_WAIT
    busy = done * phase["where"]["inference_ms"] / (SLOTS * phase["elapsed_ms"])
    assert busy > 0.8, "the slots were hardly ever idle"
