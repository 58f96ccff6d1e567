"""Where a model comes from: a path, which versions of it are served, and how they are compiled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.engine.compilation import Compilation


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """The versions that are served of those on disk: the `latest` ones, or those `listed`; all if neither is given."""

    latest: int = 0
    listed: frozenset[int] = frozenset()

    def choose(self, versions: Collection[int]) -> list[int]:
        """The versions to serve, the oldest first."""
        if self.listed:
            return sorted(self.listed.intersection(versions))
        return sorted(versions)[-self.latest :] if self.latest else sorted(versions)


NEWEST = VersionPolicy(latest=1)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model by name. `path` is a file, a folder with a model, or a folder with a folder for each version."""

    name: str
    path: Path
    policy: VersionPolicy = NEWEST
    compilation: Compilation = field(default_factory=Compilation)
