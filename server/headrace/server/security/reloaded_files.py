"""Files that are read again when they change, on a thread of their own: one that hangs must not hold up the loop."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

LOOK_SECONDS = 0.5
"""How often to look. Events of the file system would be quicker, and do not come from every one."""

T = TypeVar("T")
_Signature: TypeAlias = tuple[tuple[int, ...], ...]

logger = logging.getLogger(__name__)


class UnusableFileError(Exception):
    """The message is a sentence for the operator, which shows nothing of what the files hold."""


class ReloadedFiles(Generic[T]):
    """What some files say. `current` is the latest that could be used.

    Files are read again when they have changed and then stayed as they are from one look to the next, so that a file
    which is still being written is left alone. What cannot be used is told once, and what there was stays.
    """

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[], T]) -> None:
        """`what` names them in the log. `read` raises UnusableFileError, here too."""
        self._what = what
        self._paths = paths
        self._read = read
        self._changed: Callable[[], None] = _nothing
        self._tried = _signature(paths)
        self._seen = self._tried
        self._stopped = threading.Event()
        self.current = read()

    def start(self, changed: Callable[[], None] | None = None) -> None:
        """Follow changes from now on. `changed` is called, on the thread, whenever `current` has changed."""
        if changed is not None:
            self._changed = changed
        threading.Thread(target=self._follow, name=self._what, daemon=True).start()

    def stop(self) -> None:
        """Follow no more changes."""
        self._stopped.set()

    def look(self) -> None:
        """Read the files again if they have changed, and have not since the last look."""
        before, self._seen = self._seen, _signature(self._paths)
        if self._seen == self._tried or self._seen != before:
            return
        self._tried = self._seen
        self.read_again()

    def read_again(self) -> None:
        """Read the files now."""
        try:
            self.current = self._read()
        except UnusableFileError as error:
            logger.warning("the %s stay as they were: %s", self._what, error)
            return
        logger.info("the %s have been read again", self._what)
        self._changed()

    def _follow(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                if self._stopped.is_set():
                    return
                logger.exception("the %s could not be followed", self._what)

    def __repr__(self) -> str:
        return f"<ReloadedFiles: {self._what}{', stopped' if self._stopped.is_set() else ''}>"


def _nothing() -> None:
    pass


def _signature(paths: Sequence[Path]) -> _Signature:
    """What tells that a file is another one, or has other contents."""
    return tuple(map(_signature_of, paths))


def _signature_of(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_file(path: Path, what: str) -> bytes:
    """The contents of a file. Raises UnusableFileError."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnusableFileError(f"the {what} in {path} cannot be read: {why}") from None
