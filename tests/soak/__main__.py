"""The long tests: `make soak` and `make chaos`.

    python -m tests.soak soak|chaos|NAME ... [--share 0.01] [--transport aio]

Prints a table of each experiment, writes all of them into build/soak/, and exits with 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.soak.catalogue import EXPERIMENTS, Experiment
from tests.soak.findings import Findings
from tests.soak.report import Result, heading, table, write
from tests.soak.setting import Setting


def run(experiment: Experiment, share: float, transport: str) -> Result:
    began = time.monotonic()
    findings, error = Findings(), ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            findings = experiment.run(Setting(Path(folder), share, transport))
        except Exception as failure:
            traceback.print_exc()
            error = f"{type(failure).__name__}: {str(failure)[:500]}"
    seconds = time.monotonic() - began
    return Result(experiment.name, experiment.title, share, transport, seconds, findings, error)


def main() -> int:
    names = [each.name for each in EXPERIMENTS]
    groups = sorted({each.group for each in EXPERIMENTS})
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("wanted", nargs="+", choices=[*groups, *names], help="an experiment, or all of a kind")
    parser.add_argument("--share", type=float, default=1.0, help="of the full size (default: 1)")
    parser.add_argument(
        "--transport", default=os.environ.get("HEADRACE_TRANSPORT", "auto"), choices=["auto", "completion-queue", "aio"]
    )
    parser.add_argument("--output", type=Path, default=Path("build/soak"), metavar="FOLDER")
    asked = parser.parse_args()
    print(heading(), flush=True)
    results = []
    for each in EXPERIMENTS:
        if each.name in asked.wanted or each.group in asked.wanted:
            results.append(run(each, asked.share, asked.transport))
            print(f"\n{table(results[-1])}", flush=True)
    print(f"\n{write(results, asked.output)}")
    return 0 if all(each.holds for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
