"""A version of a model by name, ready to be loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.engine.compilation import Compilation


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A version of a model, and how it is to be compiled. `path` is a file, or the folder of a SavedModel."""

    name: str
    version: str
    path: Path
    compilation: Compilation = field(default_factory=Compilation)
