"""Notices what changes on disk, once it has settled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import watchfiles

from headrace.server.repository.files import model_files
from headrace.server.repository.scan import Disk, FoundModel, Scan, UnreadableRepositoryError

SETTLE_SECONDS = 1.0
"""A model has settled when two looks at it, this far apart, find the same files, sizes and times."""
LOOK_SECONDS = 5.0
"""How often the disk is looked at without an event: those of network file systems and behind links do not come."""
MAX_SHARE = 0.02
"""Of a processor, looking without an event takes no more: 3,000 versions take 0.4 to 1 s."""
MAX_BUSY_SHARE = 0.2
"""The same while there are events all the time, or something never settles, such as a log among the models."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """Models that have changed since they were last told of, and have settled; and those that have gone."""

    number: int
    models: Sequence[FoundModel]
    removed: Collection[str]
    remarks: Sequence[str] = ()


class Settling:
    """Compares scans: `next` takes one, and returns what has changed and is the same as in the scan before."""

    def __init__(self, known: Scan) -> None:
        """`known` has been told of."""
        self._told = dict(known.models)
        self._before = known
        self.settled = True
        """Whether the last two scans were the same."""

    def next(self, scan: Scan) -> Changes:
        before, self._before = self._before, scan
        same = {name for name in (*before.models, *scan.models) if before.models.get(name) == scan.models.get(name)}
        self.settled = same.issuperset(before.models) and same.issuperset(scan.models)
        changed = [name for name in same if self._told.get(name) != scan.models.get(name)]
        # A name that is in neither of the two scans has gone.
        removed = [name for name in self._told if name not in scan.models and name not in before.models]
        models = [scan.models[name] for name in changed]
        self._told.update({model.name: model for model in models})
        for name in removed:
            del self._told[name]
        return Changes(scan.number, models, removed, scan.remarks)


class Watcher:
    """Tells `apply`, which blocks until that is done, what has changed on disk, on a thread of its own.

    `known` is the scan that the models were started from.
    """

    def __init__(self, disk: Disk, known: Scan, apply: Callable[[Changes], object]) -> None:
        self._disk = disk
        self._apply = apply
        self._settling = Settling(known)
        self._remarks = tuple(known.remarks)
        self._stopped = threading.Event()
        self._pause = LOOK_SECONDS
        self._next = 0.0
        """When to look again at the earliest."""
        self._said = ""

    def start(self) -> None:
        threading.Thread(target=self._watch, name="watching", daemon=True).start()

    def stop(self) -> None:
        """Tell of no further changes."""
        self._stopped.set()

    def _watch(self) -> None:
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it says how many changes there were
        while not self._stopped.is_set():
            try:
                self._follow()
                self._wait()
            except UnreadableRepositoryError as error:
                self._say(f"{error}; what was loaded from it stays")
                self._stopped.wait(LOOK_SECONDS)
            except Exception:
                if self._stopped.is_set():  # the server has ended what was being applied
                    return
                logger.exception("changes on disk could not be followed; the next try is in %g s", LOOK_SECONDS)
                self._stopped.wait(LOOK_SECONDS)

    def _follow(self) -> None:
        """Look again and again until nothing changes, and tell of what has settled meanwhile."""
        while not self._stopped.wait(max(0.0, self._next - monotonic())):
            began = monotonic()
            scan = self._disk.scan()
            seconds = monotonic() - began
            self._pause = max(LOOK_SECONDS, seconds / MAX_SHARE)
            self._next = began + seconds / MAX_BUSY_SHARE
            changes = self._settling.next(scan)
            if changes.models or changes.removed or tuple(changes.remarks) != self._remarks:
                self._apply(changes)
                self._remarks = tuple(changes.remarks)
            if self._settling.settled:
                return
            self._stopped.wait(SETTLE_SECONDS)

    def _wait(self) -> None:
        """Wait for an event, but not for too long."""
        try:
            next(self._events(), None)
        except (OSError, RuntimeError) as error:
            self._say(f"changes on disk are noticed late, because events of the file system do not come: {error}")
            self._stopped.wait(self._pause)

    def _events(self) -> Iterator[object]:
        paths = [*self._disk.repositories]
        for source in self._disk.sources:
            # Not the folder of a file: that may be any, and is watched with everything below it.
            if source.path.exists():
                paths += [source.path] if source.path.is_dir() else model_files(source.path)
        return watchfiles.watch(
            *(path for path in paths if path.exists()),
            watch_filter=None,
            stop_event=self._stopped,
            rust_timeout=int(self._pause * 1e3),
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def _say(self, sentence: str) -> None:
        """A sentence for the operator, unless it was the last one."""
        if sentence != self._said:
            logger.warning("%s", sentence)
        self._said = sentence

    def __repr__(self) -> str:
        return f"<Watcher of {self._disk}{', stopped' if self._stopped.is_set() else ''}>"
