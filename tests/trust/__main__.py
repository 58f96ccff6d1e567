"""The whole proof, `make test-trust`: 20,000 good requests among 2,000 bad ones for each model and configuration."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.serving import Served
from tests.trust.failing_models import FAILING_MODELS
from tests.trust.requests import mix
from tests.trust.server import CONFIGURATIONS, arguments


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trust", description=__doc__)
    parser.add_argument("--good", type=int, default=20_000)
    parser.add_argument("--bad", type=int, default=2_000)
    parser.add_argument("models", nargs="*", default=[*FAILING_MODELS])
    asked = parser.parse_args()
    wrong = 0
    for run, threads in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            options = arguments(Path(folder), run, threads, asked.models)
            with Served(options, Path(folder) / "server.log") as served:
                for name in asked.models:
                    began = time.monotonic()
                    answers = asyncio.run(mix(served.address, name, FAILING_MODELS[name], asked.good, asked.bad))
                    took = time.monotonic() - began
                    print(
                        f"--run {run:6} threads {threads}  {name:22} {answers.good} right, {answers.failed} failed,"
                        f" {len(answers.wrong)} wrong  {took:.0f} s",
                        *answers.wrong[:3],
                        sep="\n  ",
                        flush=True,
                    )
                    wrong += len(answers.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
