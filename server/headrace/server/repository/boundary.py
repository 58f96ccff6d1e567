"""The folder that the files of a repository must not leave."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace.server.repository.source import SourceError


@dataclass(frozen=True, slots=True)
class Boundary:
    """What lies in `root`, links followed. Everything lies inside if there is no root: the operator named the path."""

    root: Path | None = None

    def check(self, paths: Iterable[Path]) -> None:
        """Raises SourceError for a path that leads out. Nothing is opened or listed, only links are read."""
        if self.root is None:
            return
        root = os.path.realpath(self.root)
        for path in paths:
            if os.path.commonpath((root, os.path.realpath(path))) != root:
                raise SourceError(
                    f"{str(path)!r} is a link that leads out of the repository {str(self.root)!r}: put the file there, "
                    "or allow such links with --follow-links",
                    "it leads out of its repository",
                )


EVERYWHERE = Boundary()
