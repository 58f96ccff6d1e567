"""What two workers gain, and where they gain nothing: figures beside those of one process.

None of them is a bound, since the client needs the same processors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from headrace.client import blocking
from tests import models
from tests.e2e.serving import Serve, Served
from tests.packaged_models import RESNET, packaged
from tests.scale.processes import pids_of

SECONDS = float(os.environ.get("SCALE_SECONDS", "2"))
ROUNDS = 2
LOADS = {
    "add/multiply, 16 streams": ("am", "--streams=16", "--concurrency=256", "--shape=x:1,16", "--shape=y:1,16"),
    "add/multiply, unary OIP, 16 connections": (
        *("am", "--streams=16", "--concurrency=16", "--shape=x:1,16", "--shape=y:1,16"),
        *("--protocol=oip", "--mode=unary"),
    ),
    "ResNet-50, 8 streams": ("resnet50", "--streams=8", "--concurrency=8", "--outputs="),
}


class Measured(NamedTuple):
    throughput: float
    processor: float
    """Seconds of the server's processes for each inference."""


def processor_seconds(served: Served) -> float:
    """Of all processes of the server that live."""
    pids = [served.process.pid, *pids_of(served.process.pid)]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def inferences(served: Served) -> int:
    """Of all models, in all workers."""
    with blocking.connect(served.address) as server:
        return sum(each.inferences for each in server.status().models)


def measure(served: Served, arguments: tuple[str, ...]) -> Measured:
    inferences_before, before = inferences(served), processor_seconds(served)
    command = [sys.executable, "-m", "headrace.client", "load", served.address, *arguments]
    ended = subprocess.run(
        [*command, f"--duration={SECONDS}", "--warmup=0.5", "--json"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    (phase,) = json.loads(ended.stdout)["runs"][0]["phases"]
    assert phase["ok"] == phase["sent"] > 0
    spent = processor_seconds(served) - before
    return Measured(phase["throughput_per_s"], spent / (inferences(served) - inferences_before))


@pytest.mark.timeout(900)
def test_the_throughput_of_two_workers_and_of_one_process(serve: Serve, tmp_path: Path) -> None:
    arguments = [str(packaged(*RESNET)), f"am={models.add_multiply(tmp_path)}"]
    arguments[0] = f"resnet50={arguments[0]}"
    one, two = serve(*arguments), serve(*arguments, "--workers=2")
    print(f"\n{'':42}{'one process':>28}{'two workers':>28}{'ratio':>8}")
    for name, load in LOADS.items():
        found: dict[str, list[Measured]] = {"one": [], "two": []}
        for _ in range(ROUNDS):
            found["one"].append(measure(one, load))
            found["two"].append(measure(two, load))
        best = {key: max(values) for key, values in found.items()}
        texts = [f"{each.throughput:,.0f}/s, {each.processor * 1e6:,.0f} us each" for each in best.values()]
        print(f"{name:42}{texts[0]:>28}{texts[1]:>28}{best['two'].throughput / best['one'].throughput:8.2f}")
