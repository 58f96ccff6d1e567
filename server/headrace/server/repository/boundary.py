"""The folder that the files of a repository must not leave."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from headrace.server.repository.source import SourceError


class Boundary:
    """What lies in `root`, links followed. Everything lies inside if there is no root: the operator named the path.

    For one look at the disk, as it remembers which folders lie inside.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self._real = "" if root is None else os.path.realpath(root)
        self._inside = set() if root is None else {str(root)}
        """Paths of folders, as they were checked."""

    def check(self, paths: Iterable[Path]) -> None:
        """Raises SourceError for a path that leads out. Nothing is opened or listed, only links are read."""
        if self.root is None:
            return
        for path in paths:
            text = str(path)
            if not self._holds(text):
                raise SourceError(
                    f"{text!r} is a link that leads out of the repository {str(self.root)!r}: put the file there, "
                    "or allow such links with --follow-links",
                    "it leads out of its repository",
                )
            self._inside.add(text)

    def _holds(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder in self._inside and name not in ("", ".", "..") and not os.path.islink(path):
            return True  # what is no link lies where its folder lies
        return os.path.commonpath((self._real, os.path.realpath(path))) == self._real

    def __repr__(self) -> str:
        return f"<Boundary {str(self.root)!r}>"


EVERYWHERE = Boundary()
