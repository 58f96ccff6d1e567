"""What decides what a trial finds: the files, how they are compiled, the server, the runtime and the processor."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from headrace.server import engine
from headrace.server.engine.compilation import Compilation
from headrace.server.processors import available_processors
from headrace.server.version import VERSION

_PROCESSOR_KEYS = {"vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "CPU part"}


def identity(files: str, compilation: Compilation, runtime: str, outputs: Sequence[int] = ()) -> str:
    """A hash of everything that decides, without what does not change how it runs by itself.

    `files` is the digest of the model's files, `runtime` the runtime's version, `outputs` those of a variant.
    """
    deciding = replace(compilation, weight=1, priority=0, expected=(), prune="auto")
    document = {
        "files": files,
        "compilation": asdict(replace(deciding, max_queue=None, max_queue_seconds=None)),
        "outputs": outputs,
        "runtime": runtime,
        "server": VERSION,
        "code": _code(),
        "processor": _processor(),
        "processors": available_processors(),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def fingerprint(files: str, compilation: Compilation) -> int:
    """64 bits of a hash of what a model computes, on whichever machine; never 0.

    That is decided by its files, and by what is done to its inputs, outputs and variables.
    """
    document = {
        "files": files,
        "inputs": {name: asdict(replace(each, warm_up="")) for name, each in compilation.inputs.items()},
        "outputs": {name: asdict(replace(each, labels="")) for name, each in compilation.outputs.items()},
        "state": compilation.state,
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


@cache
def _code() -> str:
    """A hash of the engine's source: what it guards and trusts may change between two builds of one version."""
    total = hashlib.sha256()
    for folder in engine.__path__:
        for file in sorted(Path(folder).rglob("*.py")):
            total.update(file.read_bytes())
    return total.hexdigest()


@cache
def _processor() -> list[str]:
    """The model and the abilities of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return [platform.machine(), platform.processor()]
    lines = [line.split(":", 1) for line in text.splitlines() if ":" in line]
    return [platform.machine(), *(value.strip() for key, value in lines if key.strip() in _PROCESSOR_KEYS)]
