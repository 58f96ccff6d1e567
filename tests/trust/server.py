"""Command lines for a server of failing models."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

from tests.trust.failing_models import FAILING_MODELS

CONFIGURATIONS = [*product(("auto", "direct", "async"), (1, 2))]
"""--run, and the threads of inference."""


def arguments(folder: Path, run: str, threads: int, names: Iterable[str] = FAILING_MODELS) -> list[str]:
    models = [f"{name}={FAILING_MODELS[name].save(folder, name)}" for name in names]
    properties = ("INFERENCE_PRECISION_HINT=f32", f"INFERENCE_NUM_THREADS={threads}")
    return [*models, f"--run={run}", *(f"--property={each}" for each in properties)]
