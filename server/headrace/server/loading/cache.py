"""A folder that keeps what trials have found, so that a model is tried only once, and servers decide the same.

An entry is a file of JSON with a checksum. It is written once: a server that has tried a model at the same time as
another takes what the other has written. One that is not valid is ignored and written again. Nothing here raises when
the folder cannot be used: the model is tried, and a line in the log says why nothing was kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from headrace.server.engine.findings import Findings
from headrace.server.loading.blob_cache import BlobCache

FORMAT = 1
MAX_ENTRIES = 1024
"""When there are more, those that were not used for the longest time are removed."""
MAX_ENTRY_BYTES = 64 << 10
MAX_LEFTOVER_SECONDS = 3600.0
"""The age at which an unfinished file of a server that has ended is removed."""
POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class Cache:
    """Entries by key, which is a name for a file. Several servers may use a folder at once."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when the folder does not exist and cannot be made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def blobs(self, key: str) -> BlobCache:
        """What is kept of a compiled model."""
        return BlobCache(self._folder, key)

    def read(self, key: str) -> Findings | None:
        """What is kept under a key; None if there is nothing valid."""
        try:
            file = self._file(key)
            with file.open("rb") as content:
                document = json.loads(content.read(MAX_ENTRY_BYTES))
            if document["format"] != FORMAT or document["checksum"] != _checksum(key, document["findings"]):
                return None
            findings = Findings.from_json(document["findings"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        with suppress(OSError):
            os.utime(file)
        return findings

    def add(self, key: str, findings: Findings) -> Findings:
        """Keep findings, unless there are some already. Returns those that are kept."""
        document = findings.to_json()
        text = json.dumps({"format": FORMAT, "checksum": _checksum(key, document), "findings": document})
        try:
            with NamedTemporaryFile("w", dir=self._folder, suffix=".new", delete=False) as new:
                new.write(text)
            return self._publish(Path(new.name), key) or findings
        except OSError as error:
            logger.warning("--cache-dir: nothing was kept: %s", error)
            return findings

    def _publish(self, new: Path, key: str) -> Findings | None:
        """Give a complete file its name, in one step. Returns the findings of another server that was quicker."""
        try:
            os.link(new, self._file(key))
        except FileExistsError:
            kept = self.read(key)
            if kept is None:  # not valid
                new.replace(self._file(key))
            return kept
        except OSError:  # a file system without links
            new.replace(self._file(key))
        finally:
            new.unlink(missing_ok=True)
        self._forget()
        return None

    @contextmanager
    def turn(self, seconds: float, given_up: Callable[[], bool]) -> Iterator[None]:
        """Wait until no other server with this folder tries a model, but at most so long, or until `given_up`.

        Two trials at once would measure each other. The turn ends with the process that has it.
        """
        deadline = time.monotonic() + seconds
        try:
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            while not _locked(lock) and time.monotonic() < deadline and not given_up():
                time.sleep(POLL_SECONDS)
            yield
        finally:
            os.close(lock)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _forget(self) -> None:
        """Remove the entries that are too many, and what servers have left that were ended."""
        with suppress(OSError):
            entries = sorted(_times(self._folder.glob("*.json")))
            for _, file in entries[: max(0, len(entries) - MAX_ENTRIES)]:
                file.unlink(missing_ok=True)
            for changed, file in _times(self._folder.glob("*.new")):
                if time.time() - changed > MAX_LEFTOVER_SECONDS:
                    file.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Cache {str(self._folder)!r}>"


def _checksum(key: str, findings: object) -> str:
    return hashlib.sha256(f"{key}\n{json.dumps(findings, sort_keys=True)}".encode()).hexdigest()


def _times(files: Iterator[Path]) -> Iterator[tuple[float, Path]]:
    for file in files:
        with suppress(OSError):
            yield file.stat().st_mtime, file


def _locked(lock: int) -> bool:
    """Take the lock. True if that was possible, or if the file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
