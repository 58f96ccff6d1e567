"""What a trial finds out about a model: how it may run. A value that can be written down and given to other processes.

Some of it is measured, so two trials may differ, above all on a busy machine. Processes that share a value decide the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from headrace.server.core.specs import MAX_BATCH

MAX_REASON = 1000
"""Characters of a reason."""


@dataclass(frozen=True, slots=True)
class Findings:
    """How a model may run.

    `direct`: it is compiled for direct runs; `direct_reason` says why not. `batch` is the maximum number of rows of a
    run that tickets share, and `batch_reason` says what limits it. `streams` and `threads` are what the runtime calls
    optimal for the model: runs at once, and the threads of all of them (0 on another device than CPU). `follows`: the
    shapes inside the model follow from those of its inputs (False where that does not matter, because the model is
    static). `replacement_seconds` is how long compiling it takes.
    """

    direct: bool
    direct_reason: str
    batch: int
    batch_reason: str
    streams: int
    threads: int
    follows: bool
    replacement_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The value, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Findings:
        """The value again. Raises ValueError for anything else."""
        if not isinstance(document, Mapping) or set(document) != {field.name for field in fields(cls)}:
            raise ValueError("the keys are not those of findings")
        for field in fields(cls):
            if type(document[field.name]).__name__ != field.type:
                raise ValueError(f"{field.name} is not of type {field.type}")
        found = cls(**document)
        if not (1 <= found.batch <= MAX_BATCH and 0 < found.streams < 1 << 16 and 0 <= found.threads < 1 << 16):
            raise ValueError("a number is out of range")
        if not (math.isfinite(found.replacement_seconds) and found.replacement_seconds >= 0):
            raise ValueError("replacement_seconds is not a time")
        if max(len(found.direct_reason), len(found.batch_reason)) > MAX_REASON:
            raise ValueError("a reason is too long")
        return found
