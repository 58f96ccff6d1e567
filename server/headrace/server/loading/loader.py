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
from headrace.server.loading.identity import fingerprint, identity
from headrace.server.loading.trial_process import TrialProcess
from headrace.server.repository.files import digest, model_files, stamp
from headrace.server.repository.labels import labels_beside
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, NotFound, Unavailable, quote

STOPPING = "the server is stopping"

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
    def load_variant(
        self,
        spec: ModelSpec,
        outputs: Sequence[int],
        path: Path,
        compilation: Compilation,
        findings: Findings,
        blobs: Blobs | None = None,
    ) -> ModelSpec: ...
    def findings(self, spec: ModelSpec) -> Findings | None: ...
    def unload(self, spec: ModelSpec) -> None: ...


class KeptBlobs(Blobs, Protocol):
    """Those of one model: what is added stays there once `keep` is called before `close`."""

    def keep(self) -> None: ...
    def close(self) -> None: ...


class FindingsCache(Protocol):
    """Keeps what trials have found, by key: `cache.Cache`."""

    def read(self, key: str) -> Findings | None: ...
    def add(self, key: str, findings: Findings) -> Findings:
        """Keep findings, unless there are some already. Returns those that are kept."""

    def turn(self, seconds: float, given_up: Callable[[], bool]) -> AbstractContextManager[None]:
        """Wait until no other process tries a model, but at most so long, or until `given_up`."""

    def blobs(self, key: str) -> KeptBlobs: ...


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
        cache: FindingsCache | None = None,
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
        self._tries_variant = False
        """Whether `_trial` is that of a variant, which gives way to a model."""
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
        files = _Files(model)
        key = self._key(model, files)
        findings = self._cache.read(key) if self._cache is not None else None
        known = findings is not None
        if findings is None:
            with self._closing:
                if self._trial is not None and self._tries_variant:
                    self._trial.kill("another model is to be loaded, which comes first")
            findings = self._try(_request(model), key, files)
        if self._closed:
            raise _stopping(model)
        tried = perf_counter()
        if not more:
            self.discard_spare()
        elif not known and self._spare is None:
            with suppress(OSError):  # the trial of the next model says why
                self._spare = TrialProcess()

        def load(blobs: Blobs | None) -> ModelSpec:
            labels = _labels(model)
            where = model.name, model.version, model.path
            known = fingerprint(files.contents, model.compilation)
            return self._engine.load(*where, model.compilation, labels, findings, blobs, fingerprint=known)

        spec = self._load(model, key, files, load)
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

    def load_variant(self, model: NamedModel, spec: ModelSpec, outputs: Sequence[int]) -> ModelSpec:
        """Try a variant of a model that is loaded as `spec`, unless its findings are kept, and load it.

        It computes only `outputs`, the indices of some. Raises FailedPrecondition when there is to be none, because it
        is not as good as the model, or because the files of the model have changed, and Unavailable after `close` and
        when the model has been unloaded. Messages are for the operator.
        """
        began = perf_counter()
        files = _Files(model)
        if fingerprint(files.contents, model.compilation) != spec.fingerprint:
            raise FailedPrecondition(f"the files of model {quote(model.name)} have changed since it was loaded")
        full = self._engine.findings(spec)
        if full is None:
            raise Unavailable(f"model {quote(model.name)} has been unloaded")
        key = self._key(model, files, outputs)
        findings = self._cache.read(key) if self._cache is not None else None
        if findings is None:
            findings = self._try(_request(model, outputs, full), key, files)

        def load(blobs: Blobs | None) -> ModelSpec:
            return self._engine.load_variant(spec, outputs, model.path, model.compilation, findings, blobs)

        variant = self._load(model, key, files, load)
        logger.info(
            "loaded %s in %.2f s; %s", variant, perf_counter() - began, variant.reasons() or "nothing limits it"
        )
        return variant

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
                self._trial.kill(STOPPING)

    def _key(self, model: NamedModel, files: _Files, outputs: Sequence[int] = ()) -> str:
        if self._cache is None:
            return ""
        return identity(files.contents, model.compilation, self._engine.runtime_version, outputs)

    def _load(self, model: NamedModel, key: str, files: _Files, load: Callable[[Blobs | None], ModelSpec]) -> ModelSpec:
        """Load what has been tried into the engine."""
        with nullcontext() if self._cache is None else closing(self._cache.blobs(key)) as blobs:
            with self._load_turn, self._loading():
                if self._closed:
                    raise _stopping(model)
                spec = load(blobs)
            if not files.unchanged():
                self._engine.unload(spec)
                raise _changed(model)
            if blobs is not None:
                blobs.keep()
        return spec

    def _try(self, request: TrialRequest, key: str, files: _Files) -> Findings:
        cache = self._cache
        with self._turn, nullcontext() if cache is None else cache.turn(self._seconds, lambda: self._closed):
            kept = cache.read(key) if cache is not None else None  # another server may have tried it meanwhile
            if kept is not None:
                return kept
            with self._closing:
                if self._closed:
                    raise _stopping(request)
                spare, self._spare = self._spare, None
                trial = self._trial = spare or self._start(request)
                self._tries_variant = bool(request.outputs)
            try:
                findings = trial.run(request, self._seconds)
            finally:
                with self._closing:
                    self._trial = None
            if not files.unchanged():
                raise _changed(request)
            return findings if cache is None else cache.add(key, findings)

    def _start(self, model: TrialRequest) -> TrialProcess:
        try:
            return TrialProcess()
        except OSError as error:
            why = f"model {quote(model.name)} cannot be tried: no process can be started for it: {error.strerror}"
            raise FailedPrecondition(why) from error

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._trial is None else "trying a model"
        return f"<Loader {state}>"


class _Files:
    """The files that decide what a model is, as they are now.

    Making one raises NotFound and FailedPrecondition, with a message for the operator.
    """

    def __init__(self, model: NamedModel) -> None:
        try:
            self._files = [*model_files(model.path), *extension_libraries(model.compilation.extensions)]
            self._before = stamp(self._files)
            self.contents = digest(self._files)
        except ValueError as error:
            raise FailedPrecondition(f"model {quote(model.name)} cannot be read: {error}") from error
        except FileNotFoundError as error:
            where = quote(str(model.path), 1000)
            raise NotFound(f"model {quote(model.name)}: file {where} does not exist") from error
        except OSError as error:
            reason = f"model {quote(model.name)} cannot be read from {quote(str(model.path), 1000)}: {error.strerror}"
            raise FailedPrecondition(reason) from error

    def unchanged(self) -> bool:
        try:
            return stamp(self._files) == self._before
        except OSError:
            return False


def _request(model: NamedModel, outputs: Sequence[int] = (), full: Findings | None = None) -> TrialRequest:
    path = model.path.absolute()
    return TrialRequest(model.name, model.version, path, model.compilation, tuple(outputs), full)


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


def _changed(model: NamedModel | TrialRequest) -> FailedPrecondition:
    return FailedPrecondition(f"model {quote(model.name)} was not loaded: its files changed meanwhile; load it again")


def _stopping(model: NamedModel | TrialRequest) -> Unavailable:
    return Unavailable(f"model {quote(model.name)} was not loaded: {STOPPING}")
