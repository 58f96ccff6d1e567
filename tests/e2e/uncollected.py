"""A server without a garbage collector: `python -m tests.e2e.uncollected MODEL...`.

Once the file that GARBAGE names plus `.asked` exists, it writes to that file what a collector would have freed: a count
for each type, as JSON. A list is always among it.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

from headrace.server.cli import main
from tests.waiting import until

GARBAGE = "GARBAGE_FILE"


def garbage(file: Path) -> dict[str, int]:
    """What the server has, which was started with this file."""
    file.with_suffix(".asked").touch()
    until(file.exists, lambda: "the server does not look for garbage")
    found: dict[str, int] = json.loads(file.read_text())
    return found


def _tell(file: Path) -> None:
    while not file.with_suffix(".asked").exists():
        time.sleep(0.05)
    planted: list[object] = []
    planted.append(planted)
    del planted
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    file.with_suffix(".part").write_text(json.dumps(kinds))
    file.with_suffix(".part").rename(file)


if __name__ == "__main__":
    gc.disable()
    threading.Thread(target=_tell, args=(Path(os.environ[GARBAGE]),), daemon=True).start()
    main()
