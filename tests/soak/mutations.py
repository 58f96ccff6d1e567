"""A million requests that may be anything, on both fronts: each is answered, soon, and with nothing that is private.

    python -m tests.soak.mutations ADDRESS SOURCE SEED COUNT

sends those of one source and prints a line of JSON. New seeds are put into build/soak/seeds.json, from where they can
be copied to tests/costs/.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.costs.fronts import Fronts
from tests.costs.fuzzing import Seeds, bytes_of_seeds, changes, examples
from tests.costs.measuring import Costly, Meter, metered
from tests.costs.requests import BUILDS, LARGEST, MiB, infer
from tests.e2e.serving import Served
from tests.soak.findings import Findings
from tests.soak.setting import WRONG, Setting

PARTS = {"changes": 700_000, "seeds": 250_000, "examples": 50_000}
"""Good requests that were changed; seeds of which bytes were; and what Hypothesis makes."""
MAX_SECONDS = 1.0
MAX_P99_MS = 100.0
GOOD = Costly("/inference.GRPCInferenceService/ModelInfer", [infer("scale", "FP32", [16], bytes(64))])
NEW_SEEDS = Path("build/soak/seeds.json")


def mutations(setting: Setting) -> Findings:
    paths = [build(setting.folder) for build in BUILDS]
    with (
        setting.serving(*paths, "--shared-memory", "--batch=off") as served,
        metered(served) as meter,
    ):
        return send_all(served, meter, {part: setting.of(full) for part, full in PARTS.items()}, processes=3)


def send_all(served: Served, meter: Meter, parts: dict[str, int], processes: int, seed: int = 1) -> Findings:
    """With one process, which leaves the other clients a processor, these must not wait for long either."""
    findings = Findings()
    idle = meter.idle_p99_ms()
    meter.restart()

    def send(part: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.soak.mutations", served.address, part, str(seed), str(parts[part])]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 0, "a request was not answered: see the error above"
        told: dict[str, Any] = json.loads(ended.stdout)
        return told

    with ThreadPoolExecutor(processes) as pool:
        told = [*pool.map(send, parts)]
    cost = meter.measure(GOOD, since_restart=True)
    requests = sum((Counter(each["requests"]) for each in told), Counter[str]())
    codes = sum((Counter(each["codes"]) for each in told), Counter[str]())
    leaks = [leak for each in told for leak in each["leaks"]]
    findings.at_least("requests, each of them answered", requests.total(), sum(parts.values()))
    for part, each in zip(parts, told, strict=True):
        findings.count(f"  {TITLES[part]}", sum(each["requests"].values()))
    for name in sorted(requests):
        findings.count(f"  sent as {name}", requests[name])
    findings.at_least("of all answers, those that are good", codes["OK"], requests.total() // 20)
    for code in sorted(codes.keys() - {"OK"}):
        findings.count(f"  {code}", codes[code])
    findings.equal("answers with something private", len(leaks), 0)
    findings.equal("lines of the log about failures", sum(served.log.count(word) for word in WRONG), 0)
    findings.below("memory at its peak, more than before", cost.growth / MiB, 4 * LARGEST / MiB, "MiB")
    findings.below("slowest answer", max(each["slowest"] for each in told), MAX_SECONDS, "s")
    if processes == 1:
        findings.below("p99 of another client meanwhile", cost.p99_ms, MAX_P99_MS + idle, "ms")
    findings.equal("a good request is answered at the end", cost.answer == "OK", True)
    for leak in leaks[:3]:
        print(leak, file=sys.stderr)
    return findings


TITLES = {"changes": "good ones with changes", "seeds": "seeds with changed bytes", "examples": "made by Hypothesis"}


def main(address: str, part: str, seed: str, count: str) -> None:
    told: dict[str, Any] = {}
    seeds = Seeds()
    with Fronts(address, seeds.heard) as fronts:
        if part == "changes":
            changes(fronts, int(seed), int(count))
        elif part == "seeds":
            bytes_of_seeds(fronts, seeds, int(seed), int(count))
        else:
            examples(fronts, int(seed), int(count))
        told |= {"requests": fronts.requests, "codes": fronts.codes, "leaks": fronts.leaks, "slowest": fronts.slowest}
    if part == "seeds" and seeds.new:
        NEW_SEEDS.parent.mkdir(parents=True, exist_ok=True)
        NEW_SEEDS.write_text(json.dumps(seeds.as_json(), indent=0, sort_keys=True) + "\n")
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
