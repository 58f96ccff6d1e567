"""Millions of inferences by many streams: the server's memory is what it was after the first ones.

The same against a server with a planted leak must be found, or the experiment would find nothing.
"""

from __future__ import annotations

import time
from collections import Counter

from tests import models
from tests.e2e.serving import Served
from tests.interop.inferences import Bystander
from tests.soak.findings import Findings
from tests.soak.leaking import LEAK_BYTES
from tests.soak.setting import PATIENCE, SETTLE_SECONDS, Setting, descriptors, threads
from tests.soak.streams import INFERENCES, processes

STREAMS, LOOKS = 50_000, 10
"""A tenth of the streams each time, and then a look at the memory; once more before the first look."""
GROWTH, GROWTH_OF_FEW = 2.0, 6.0
"""In percent. What few streams leave is mostly the allocator's."""
FEW = 5_000
LEAKED_BYTES = 4096
"""Of each stream, by the server with the leak, for which a tenth of the streams is enough."""
MIB = 1 << 20


def growth(setting: Setting) -> Findings:
    findings = Findings()
    with setting.serving(models.scale(setting.folder)) as served:
        _measure(findings, served, setting.of(STREAMS))
    return findings


def planted_leak(setting: Setting) -> Findings:
    """The same, where it must be found that memory grows."""
    streams = setting.of(STREAMS // 10)
    leaked = LEAKED_BYTES * (STREAMS // 10) // streams
    findings, inner = Findings(), Findings()
    env = {LEAK_BYTES: str(leaked)}
    with setting.serving(models.scale(setting.folder), module="tests.soak.leaking", env=env) as served:
        _measure(inner, served, streams)
    rows = {each.what: each for each in inner}
    findings.count("streams", rows["streams"].value)
    findings.count("bytes that each of them leaks", leaked)
    findings.count("growth", rows["growth"].value, "%")
    findings.equal("found to be too much", not rows["growth"].holds, True)
    return findings


def _measure(findings: Findings, served: Served, streams: int) -> None:
    """Memory goes up and down by some MiB from look to look, so the least of three looks counts."""
    pid = served.process.pid
    few = streams < FEW
    looks = 2 if few else LOOKS
    bystander = Bystander(served.address, PATIENCE)
    with bystander.channel:

        def work(number: int) -> int:
            counts.update(processes(served.address, -(-streams // looks), seed=1000 * number))
            bystander.until_idle()
            if not few:
                time.sleep(SETTLE_SECONDS)
                bystander.until_idle()
            return served.resident_bytes()

        counts: Counter[str] = Counter()
        resident = [work(0)]
        at_first, files, there = counts["inferences"], descriptors(pid), len(threads(pid))
        counts.clear()
        began = time.monotonic()
        resident += [work(number) for number in range(1, looks + 1)]
        seconds = time.monotonic() - began - (0 if few else looks * SETTLE_SECONDS)
        inferences, connections = counts.pop("inferences"), counts.pop("connections")
        findings.at_least("streams", counts.total(), streams)
        for name in sorted(counts):
            findings.count(f"  {name}", counts[name])
        findings.at_least("inferences, each with the right answer", inferences, streams * INFERENCES)
        findings.count("inferences before the first look", at_first)
        findings.count("connections", connections)
        findings.count("inferences per second", inferences / seconds)
        for number, look in enumerate(resident):
            findings.count(f"  memory after {number / looks:.0%}", look / MIB, "MiB")
        last = min(resident[-3:] if not few else resident[-1:])
        first = min(resident[:3] if not few else resident[:1])
        findings.below("growth", 100 * (last / first - 1), GROWTH_OF_FEW if few else GROWTH, "%")
        findings.below("more descriptors than before", descriptors(pid) - files, 5)
        findings.below("more threads than before", len(threads(pid)) - there, 8)
        status = bystander.status()
        findings.equal("kept bytes at the end", status.kept_bytes, 0)
        findings.equal("slots still taken at the end", sum(each.slots_running for each in status.models), 0)
