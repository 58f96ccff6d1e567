"""`make bench-costs`: what each costly request costs a server and its other clients.

python -m tests.costs [PART OF A NAME]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.costs.measuring import metered
from tests.costs.requests import BUILDS, LARGEST, MiB, costly_requests, region
from tests.e2e.serving import Served


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'request':44} {'size':>9} {'seconds':>8} {'p99':>7} {'max ms':>7} {'growth':>9} {'/size':>7}  answer")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(build(folder)) for build in BUILDS]
        with Served([*paths, "--shared-memory"], folder / "log") as served, metered(served) as meter, region() as first:
            meter.measure(first)
            peak = 0
            for request, costly in costly_requests():
                if wanted not in request:
                    continue
                cost = meter.measure(costly)
                peak = max(peak, cost.peak)
                print(
                    f"{request:44} {costly.nbytes / MiB:6.1f}MiB {cost.seconds:8.3f} {cost.p99_ms:7.1f} "
                    f"{cost.max_ms:7.1f} {cost.growth / MiB:6.1f}MiB {cost.growth / costly.nbytes:7.1f}  {cost.answer} "
                    f"{cost.details[:100]}",
                    flush=True,
                )
            growth = peak - meter.start
            print(f"\nPeak above the start: {growth / MiB:.0f} MiB, {growth / LARGEST:.1f} times the largest message.")


if __name__ == "__main__":
    main()
