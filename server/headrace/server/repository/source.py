"""Where a model comes from: a path, which versions of it are served, and how they are compiled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.engine.compilation import Compilation


class SourceError(Exception):
    """Something on disk or on the command line is no model. The message is a sentence for the operator.

    `told` is what clients are told, a clause without paths, as in "its file is missing".
    """

    def __init__(self, message: str, told: str = "see the server's log") -> None:
        super().__init__(message)
        self.told = told

    def __eq__(self, other: object) -> bool:
        """Whether the same is wrong: what is found on disk is compared with what was found before."""
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class MissingError(SourceError):
    """A file does not exist."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "its file is missing")


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

    def __str__(self) -> str:
        """The versions, as in "only the newest version is served"."""
        if self.listed:
            return f"versions {', '.join(map(str, sorted(self.listed)))}"
        if self.latest == 1:
            return "the newest version"
        return f"the newest {self.latest} versions" if self.latest else "all versions"


NEWEST = VersionPolicy(latest=1)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model by name. `path` is a file, a folder with a model, or a folder with a folder for each version.

    `file` is the name of the model's file in its folder, or in those of its versions, where it is not to be found by
    its extension.
    """

    name: str
    path: Path
    policy: VersionPolicy = NEWEST
    compilation: Compilation = field(default_factory=Compilation)
    file: str = ""
