"""A server that dies of a certain input, as of a fault in an operation: `python -m tests.e2e.crashing MODEL...`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from headrace.server.cli import main
from headrace.server.core.engine_api import Run
from headrace.server.engine.runtime import OpenVinoEngine

DEADLY = np.float32(1313)


def die_of_it() -> None:
    start = OpenVinoEngine.start

    def maybe(engine: OpenVinoEngine, run: Run, **options: Any) -> Any:
        if any(DEADLY.tobytes() in bytes(tensor) for part in run.parts for tensor in part.inline):
            os._exit(9)
        return start(engine, run, **options)

    patched: Any = OpenVinoEngine
    patched.start = maybe


if __name__ == "__main__":
    die_of_it()
    main()
