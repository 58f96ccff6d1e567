"""What trials have found, kept by the parent: a model is tried by one worker, and all decide as it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic, sleep

from headrace.server.engine.findings import Findings
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import KeptBlobs
from headrace.server.workers.link import Link
from headrace.server.workers.order import FINDINGS, KEEP, TURN, TURN_OVER

POLL_SECONDS = 0.05


class _NoBlobs:
    takes_more = False

    def read(self, name: str) -> bytes | None:
        return None

    def add(self, name: str, blob: bytes) -> None: ...
    def keep(self) -> None: ...
    def close(self) -> None: ...


class SharedFindings:
    """`loading.loader.FindingsCache` of a worker: the parent's come first, then those of the folder, if there is one.

    Its methods block, and are called on threads that load models.
    """

    def __init__(self, link: Link, folder: Cache | None) -> None:
        self._link = link
        self._folder = folder

    def read(self, key: str) -> Findings | None:
        findings: Findings | None = self._link.ask(FINDINGS, key)
        if findings is None and self._folder is not None:
            kept = self._folder.read(key)
            if kept is not None:
                findings = self._link.ask(KEEP, (key, kept))
        return findings

    def add(self, key: str, findings: Findings) -> Findings:
        if self._folder is not None:
            findings = self._folder.add(key, findings)
        kept: Findings = self._link.ask(KEEP, (key, findings))
        return kept

    @contextmanager
    def turn(self, seconds: float, given_up: Callable[[], bool]) -> Iterator[None]:
        deadline = monotonic() + seconds
        while not (mine := self._link.ask(TURN)) and monotonic() < deadline and not given_up():
            sleep(POLL_SECONDS)
        try:
            with nullcontext() if self._folder is None else self._folder.turn(deadline - monotonic(), given_up):
                yield
        finally:
            if mine:
                self._link.begin(TURN_OVER)

    def blobs(self, key: str) -> KeptBlobs:
        return _NoBlobs() if self._folder is None else self._folder.blobs(key)

    def __repr__(self) -> str:
        return f"<SharedFindings over {self._folder}>"
