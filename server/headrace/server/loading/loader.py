"""Loads models: each is tried in a process of its own, or known from an earlier trial, before this process reads it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from time import perf_counter
from typing import Protocol

from headrace.server.core.specs import ModelSpec
from headrace.server.engine.blobs import Blobs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.extensions import extension_libraries
from headrace.server.engine.findings import Findings
from headrace.server.engine.labels import labels_in
from headrace.server.engine.trial.messages import TrialRequest
from headrace.server.loading.cache import Cache
from headrace.server.loading.identity import fingerprint, identity
from headrace.server.loading.trial_process import TrialProcess
from headrace.server.repository.files import Stamp, digest, model_files, stamp
from headrace.server.repository.labels import labels_beside
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, NotFound, Unavailable, quote

logger = logging.getLogger(__name__)


class LoadingEngine(Protocol):
    """What the loader needs of `engine.runtime.OpenVinoEngine`."""

    @property
    def runtime_version(self) -> str: ...
    def load(
        self,
        name: str,
        version: str,
        path: Path,
        compilation: Compilation | None = None,
        labels: Sequence[str] = (),
        findings: Findings | None = None,
        blobs: Blobs | None = None,
        fingerprint: int = 0,
    ) -> ModelSpec: ...
    def unload(self, spec: ModelSpec) -> None: ...


class Loader:
    """`load` blocks and may be called by several threads. `close` ends the trial in progress.

    Models are tried one at a time, and loaded one at a time into the engine: those that serve keep most of the
    processor, and what a load adds to the memory is that model's.

    The engine loads inside `loading()`. `seconds` is how long a trial may take.
    """

    def __init__(
        self,
        engine: LoadingEngine,
        loading: Callable[[], AbstractContextManager[None]],
        seconds: float,
        cache: Cache | None = None,
    ) -> None:
        self._engine = engine
        self._loading = loading
        self._seconds = seconds
        self._cache = cache
        self._turn = threading.Lock()
        """Held while a model is tried."""
        self._load_turn = threading.Lock()
        """Held while a model is loaded into the engine."""
        self._closing = threading.Lock()
        """Held while `_trial` or `_closed` changes."""
        self._trial: TrialProcess | None = None
        self._spare: TrialProcess | None = None
        self._closed = False

    def load(self, model: NamedModel, more: bool = False) -> ModelSpec:
        """Try a model, unless its findings are kept, and load it into the engine.

        With `more`, the same thread is about to load another one: the process of its trial gets ready meanwhile. The
        load without `more`, or `discard_spare`, ends that process if it has got no model.

        Raises NotFound when its file is missing, FailedPrecondition when it cannot be served, and Unavailable after
        `close`. Messages are for the operator.
        """
        began = perf_counter()
        try:
            files = [*model_files(model.path), *extension_libraries(model.compilation.extensions)]
            before = stamp(files)
            contents = digest(files)
            key = self._key(model, contents)
        except ValueError as error:
            raise FailedPrecondition(f"model {quote(model.name)} cannot be read: {error}") from error
        except FileNotFoundError as error:
            where = quote(str(model.path), 1000)
            raise NotFound(f"model {quote(model.name)}: file {where} does not exist") from error
        except OSError as error:
            reason = f"model {quote(model.name)} cannot be read from {quote(str(model.path), 1000)}: {error.strerror}"
            raise FailedPrecondition(reason) from error
        findings = self._cache.read(key) if self._cache is not None else None
        known = findings is not None
        if findings is None:
            findings = self._try(model, key, files, before)
        if self._closed:
            raise _stopping(model)
        tried = perf_counter()
        if not more:
            self.discard_spare()
        elif not known and self._spare is None:
            with suppress(OSError):  # the trial of the next model says why
                self._spare = TrialProcess()
        with nullcontext() if self._cache is None else closing(self._cache.blobs(key)) as blobs:
            with self._load_turn, self._loading():
                if self._closed:
                    raise _stopping(model)
                labels = _labels(model)
                spec = self._engine.load(
                    model.name,
                    model.version,
                    model.path,
                    model.compilation,
                    labels,
                    findings,
                    blobs,
                    fingerprint=fingerprint(contents, model.compilation),
                )
            if not _unchanged(files, before):
                self._engine.unload(spec)
                raise _changed(model)
            if blobs is not None:
                blobs.keep()
        how = "its trial is known" if known else f"tried in {tried - began:.2f} s"
        took = perf_counter() - tried
        logger.info("loaded %s: %s, loaded in %.2f s; %s", spec, how, took, spec.reasons() or "nothing limits it")
        if spec.resets:
            logger.warning(
                "model %s has variables, which are reset before each inference; with --state=sequence the server keeps "
                "them by sequence_id, with --state=ports clients send and receive them",
                quote(spec.name),
            )
        return spec

    def discard_spare(self) -> None:
        """The last model of a start has been loaded."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.discard()

    def close(self) -> None:
        """End the trial in progress, and begin no other one."""
        with self._closing:
            self._closed = True
            if self._trial is not None:
                self._trial.kill()

    def _key(self, model: NamedModel, contents: str) -> str:
        if self._cache is None:
            return ""
        return identity(contents, model.compilation, self._engine.runtime_version)

    def _try(self, model: NamedModel, key: str, files: Sequence[Path], before: Stamp) -> Findings:
        cache = self._cache
        with self._turn, nullcontext() if cache is None else cache.turn(self._seconds, lambda: self._closed):
            kept = cache.read(key) if cache is not None else None  # another server may have tried it meanwhile
            if kept is not None:
                return kept
            request = TrialRequest(model.name, model.version, model.path.absolute(), model.compilation)
            with self._closing:
                if self._closed:
                    raise _stopping(model)
                spare, self._spare = self._spare, None
                trial = self._trial = spare or self._start(model)
            try:
                findings = trial.run(request, self._seconds)
            finally:
                with self._closing:
                    self._trial = None
            if not _unchanged(files, before):
                raise _changed(model)
            return findings if cache is None else cache.add(key, findings)

    def _start(self, model: NamedModel) -> TrialProcess:
        try:
            return TrialProcess()
        except OSError as error:
            why = f"model {quote(model.name)} cannot be tried: no process can be started for it: {error.strerror}"
            raise FailedPrecondition(why) from error

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._trial is None else "trying a model"
        return f"<Loader {state}>"


def _labels(model: NamedModel) -> tuple[str, ...]:
    """The labels in the file that is configured, or else in one beside the model. Raises FailedPrecondition."""
    file = model.compilation.labels
    if not file:
        return labels_beside(model.path)
    try:
        return labels_in(Path(file))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        reason = f"model {quote(model.name)}: labels cannot be read from {quote(file, 1000)}: {why}"
        raise FailedPrecondition(reason) from error


def _unchanged(files: Sequence[Path], before: Stamp) -> bool:
    try:
        return stamp(files) == before
    except OSError:
        return False


def _changed(model: NamedModel) -> FailedPrecondition:
    return FailedPrecondition(f"model {quote(model.name)} was not loaded: its files changed meanwhile; load it again")


def _stopping(model: NamedModel) -> Unavailable:
    return Unavailable(f"model {quote(model.name)} was not loaded: the server is stopping")
