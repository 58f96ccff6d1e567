"""Compiled models in the folder of `--cache-dir`: a file each, with a checksum, written in one step."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

MAX_BLOB_BYTES = 1 << 30
"""A larger one is not kept."""
MAX_TOTAL_BYTES = 8 << 30
MAX_BLOBS = 4096
"""When all take more, or are more, those that were not used for the longest time are removed: what says that a model is
not worth keeping is a blob of no bytes."""
_DIGEST_BYTES = 32

logger = logging.getLogger(__name__)


class BlobCache:
    """The compiled forms of one model: `key` says everything that decides besides how they are compiled.

    What is added is kept by `keep`, when it is certain that the model is the one of the key, or forgotten by `close`.
    One that is not valid is ignored and written again. Several servers may use a folder at once.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key
        self._added: dict[str, Path] = {}
        self._closed = False

    @property
    def takes_more(self) -> bool:
        """Whether `add` keeps anything."""
        return not self._closed

    def read(self, name: str) -> bytes | None:
        """What is kept under a name; None if there is nothing valid."""
        try:
            # Without a buffer: what is large is not copied, which would hold up the event loop.
            with self._file(name).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size > _DIGEST_BYTES + MAX_BLOB_BYTES:
                    return None
                digest, blob = file.read(_DIGEST_BYTES), file.readall()
            os.utime(self._file(name))
        except (OSError, MemoryError):
            return None
        return blob if digest == self._digest(name, blob) else None

    def add(self, name: str, blob: bytes) -> None:
        """Write a compiled model, unless it is too large, there is no room for it, or this is closed."""
        if self._closed or name in self._added or len(blob) > MAX_BLOB_BYTES:
            return
        try:
            with NamedTemporaryFile(dir=self._folder, suffix=".new", delete=False) as file:
                self._added[name] = Path(file.name)
                file.write(self._digest(name, blob))
                file.write(blob)
        except OSError as error:
            logger.warning("--cache-dir: a compiled model was not kept: %s", error)
            new = self._added.pop(name, None)
            if new is not None:
                _remove(new)

    def keep(self) -> None:
        """Give what was added its names, in one step each."""
        with suppress(OSError):
            for name, new in self._added.items():
                new.replace(self._file(name))
            if self._added:
                self._forget()

    def close(self) -> None:
        """Remove what was added and not kept, and add no more. It can still be read."""
        self._closed = True
        for new in self._added.values():
            _remove(new)
        self._added.clear()

    def _file(self, name: str) -> Path:
        return self._folder / f"{self._key}-{name}.blob"

    def _digest(self, name: str, blob: bytes) -> bytes:
        total = hashlib.sha256(f"{self._key} {name}\n".encode())
        total.update(blob)
        return total.digest()

    def _forget(self) -> None:
        """Remove what is too much."""
        with suppress(OSError):
            found = [(file.stat(), file) for file in self._folder.glob("*.blob")]
            found.sort(key=lambda each: each[0].st_mtime)
            total = sum(status.st_size for status, _ in found)
            too_many = len(found) - MAX_BLOBS
            for number, (status, file) in enumerate(found):
                if total <= MAX_TOTAL_BYTES and number >= too_many:
                    break
                file.unlink(missing_ok=True)
                total -= status.st_size

    def __repr__(self) -> str:
        return f"<BlobCache {str(self._folder)!r}, {self._key[:8]}>"


def _remove(file: Path) -> None:
    with suppress(OSError):  # a file system that has become read-only
        file.unlink(missing_ok=True)
