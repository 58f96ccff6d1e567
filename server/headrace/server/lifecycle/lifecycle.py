"""Decides which versions of which models are loaded, and loads and unloads them while the server serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

from headrace.server.core.core import Core
from headrace.server.core.models import no_model
from headrace.server.core.specs import ModelSpec
from headrace.server.lifecycle.managed import Failure, ManagedModel, ManagedVersion
from headrace.server.lifecycle.threads import Worker
from headrace.server.repository.named import NamedModel
from headrace.server.repository.scan import FoundModel, FoundVersion, Scan, UnreadableRepositoryError
from headrace.server.repository.source import MissingError
from headrace.server.repository.watching import Changes
from headrace.server.services.api import CONTROL_DISABLED, ModelState
from headrace.wire.errors import FailedPrecondition, HeadraceError, NotFound, PermissionDenied, Unavailable, quote

logger = logging.getLogger(__name__)

T = TypeVar("T")
Load = Callable[[NamedModel, bool], ModelSpec]
"""Reads and compiles a model; the flag says that another load follows at once. Blocks for seconds; raises HeadraceError
with a message for the operator."""


class Statuses(Protocol):
    """Where it is told which models and versions can be used: `services.health.Health`."""

    def set(self, service: str, serving: bool) -> None: ...
    def forget(self, service: str) -> None: ...


def unreadable(name: str) -> FailedPrecondition:
    """The error of a load while a repository cannot be listed, for clients."""
    return FailedPrecondition(f"model {quote(name)} could not be loaded: see the server's log")


class Lifecycle:
    """`services.api.Control` over what `scan` finds on disk.

    `scan` and `load` block, and run on other threads; models are loaded one at a time. `change_core` is
    `Dispatcher.tell`, which also makes the engine free what the core no longer needs.

    What is loaded follows three rules. The policy of a model chooses among its versions that can be loaded: one that
    cannot counts as absent until its files change, so an older one may serve instead. A new version is loaded before an
    older one is dropped, and what replaces a version that serves is loaded before that is let go. What has gone from
    the disk is dropped when something else serves, or when the folder of the model has gone, too.
    """

    def __init__(
        self,
        scan: Callable[[], Scan],
        load: Load,
        core: Core,
        change_core: Callable[[Callable[[Core, float], None]], None],
        statuses: Statuses,
        *,
        allowed: bool,
    ) -> None:
        self.allowed = allowed
        self._scan_disk = scan
        self._load_model = load
        self._core = core
        self._change_core = change_core
        self._statuses = statuses
        self._models: dict[str, ManagedModel] = {}
        self._stay_unloaded: set[str] = set()
        """Models that a client had unloaded when their folders went: they are not loaded when those come back."""
        self._remarks: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()
        """Held while a model is loaded."""
        self._loader, self._scanner = Worker("loading"), Worker("scanning")
        self._loads = 0
        self._starting = False
        self._changes: set[asyncio.Task[Any]] = set()

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded, which cannot be stopped."""
        return self._loads > 0

    @property
    def failures(self) -> list[str]:
        """What should serve and does not, each with a reason, for clients."""
        models = (model for _, model in sorted(self._models.items()))
        return [reason for model in models if not model.unloaded for reason in model.failures()]

    def index(self) -> Sequence[ModelState]:
        """The state of every version, sorted by name and number."""
        retired = {(model.spec.name, model.spec.version) for model in self._core.models.retired}
        return [state for _, model in sorted(self._models.items()) for state in model.states(retired)]

    def source(self, spec: ModelSpec) -> NamedModel | None:
        """The files that a version was loaded from that serves as `spec`."""
        model = self._models.get(spec.name)
        for version in () if model is None else model.serving:
            if version.spec is spec and version.loaded is not None:
                return version.loaded.model
        return None

    async def scan(self) -> Scan:
        """What is on disk now. Raises UnreadableRepositoryError."""
        return await self._scanner.run(self._scan_disk)

    async def start(self, scan: Scan) -> None:
        """Load what a first scan has found, one after another; what is loaded serves.

        Raises the error of a model that the operator has named, or SourceError if it is not there; goes on if a model
        of a repository cannot be loaded. Messages are for the operator.
        """
        for found in scan.models.values():
            if found.required:
                found.check()
        self._remark(scan.remarks)
        models = [self._model(found) for found in scan.models.values()]
        for model in models:
            self._take(model, model.found, scan.number)
            for number in model.chosen():
                model.versions[number].due = True
            self._publish(model)
        self._starting = True
        for number, model in enumerate(models, 1):
            failure = await self._change(model, self._settle(model, more=number < len(models)))
            if failure is not None and model.found.required:
                raise failure.error
        self._starting = False

    async def refresh(self, changes: Changes) -> None:
        """Follow the disk: drop what has gone, and load what is new or has changed."""
        self._remark(changes.remarks)
        for name in changes.removed:
            gone = self._models.get(name)
            if gone is not None:
                await self._change(gone, self._remove(gone, changes.number))
        for found in changes.models:
            model = self._model(found)
            with suppress(Unavailable):  # the server is stopping
                await self._change(model, self._follow(model, found, changes.number))

    def leave_unloaded(self, names: Iterable[str]) -> None:
        """Do not load models of these names, when they are found, until that is asked for. To be called before that."""
        self._stay_unloaded.update(names)

    async def load(self, name: str, scan: Scan | None = None) -> None:
        """Load what the policy of a model chooses, from disk, whether or not it is loaded already.

        `scan` is what has been found there, if somebody has looked. What is loaded serves until the new one replaces
        it. A load that fails changes nothing except the reason in the index. Raises PermissionDenied, NotFound,
        Unavailable while the server drains, and the error of a load that fails, with a message for clients.
        """
        self._check_allowed()
        try:
            scan = scan or await self.scan()
        except UnreadableRepositoryError as error:
            logger.warning("%s", error)
            raise unreadable(name) from error
        found, known = scan.models.get(name), self._models.get(name)
        if found is None:
            if known is None:
                raise NotFound(no_model(name, self._models))
            gone = MissingError(f"model {name!r}: its folder does not exist any more")
            found = FoundModel(name, known.found.policy, problem=gone)
        model = self._model(found)
        failure = await self._change(model, self._follow(model, found, scan.number, again=True))
        if failure is not None:
            raise model.told(failure) from failure.error

    async def unload(self, name: str) -> None:
        """Unload all versions of a model; tickets in flight still finish. This has no effect on what is not loaded.

        Nothing of the model is loaded again until that is asked for. Raises PermissionDenied and NotFound.
        """
        self._check_allowed()
        model = self._models.get(name)
        if model is None:
            raise NotFound(no_model(name, self._models))
        async with model.lock:
            if self._models.get(name) is not model:  # it was removed meanwhile, and may have come back
                await self.unload(name)
                return
            model.unloaded = True
            self._unload(model, model.serving, "has been unloaded")
            for version in model.versions.values():
                version.due, version.reason = False, ""
            self._publish(model)

    def _check_allowed(self) -> None:
        if not self.allowed:
            raise PermissionDenied(CONTROL_DISABLED)

    def _remark(self, remarks: Sequence[str]) -> None:
        for remark in remarks:
            if remark not in self._remarks:
                logger.warning("%s", remark)
        self._remarks = frozenset(remarks)

    def _model(self, found: FoundModel) -> ManagedModel:
        """The model of this name, which becomes known with that."""
        if found.name not in self._models:
            self._models[found.name] = ManagedModel(found, unloaded=found.name in self._stay_unloaded)
        return self._models[found.name]

    def _take(self, model: ManagedModel, found: FoundModel, scanned: int) -> None:
        """This is on disk now, unless a later scan has found something else."""
        if model.scanned < scanned:
            for sentence in model.take(found, scanned):
                logger.warning("%s", sentence)
            self._publish(model)

    async def _change(self, model: ManagedModel, change: Coroutine[Any, Any, T]) -> T:
        """Let a model change when it is its turn.

        A change goes on even if the client has gone that asked for it: a thread cannot be stopped, and what it loads
        must not go unnoticed.
        """
        try:
            await model.lock.acquire()
        except BaseException:
            change.close()
            raise
        task = asyncio.ensure_future(change)
        self._changes.add(task)
        task.add_done_callback(partial(self._changed, model))
        return await asyncio.shield(task)

    def _changed(self, model: ManagedModel, task: asyncio.Task[Any]) -> None:
        """A change has ended. Its error is in the index and in the log, whether or not a client still waits for it."""
        self._changes.discard(task)
        model.lock.release()
        if not task.cancelled():
            task.exception()

    async def _follow(
        self, model: ManagedModel, found: FoundModel, scanned: int, *, again: bool = False
    ) -> Failure | None:
        """What has been found is loaded. Returns the first failure. Raises Unavailable."""
        if self._models.setdefault(model.name, model) is not model:
            raise Unavailable(f"model {quote(model.name)} was removed while it was to be loaded; load it again")
        self._take(model, found, scanned)
        return await self._settle(model, again=again)

    async def _settle(self, model: ManagedModel, *, again: bool = False, more: bool = False) -> Failure | None:
        """Load what the policy chooses and is not loaded as it is on disk, then drop the rest.

        `again` loads what is loaded or has been unloaded, too, until something fails. Returns the first failure.
        """
        if again:
            model.try_again()
        elif model.unloaded:
            return None
        first: Failure | None = None
        done: set[int] = set()
        while due := model.due(done, again=again and first is None):
            number = due[-1]
            done.add(number)
            failure = await self._load(model, model.versions[number], more=more or len(due) > 1)
            first = first or failure
        chosen = model.chosen()
        if chosen:
            others = [version for version in model.serving if version.number not in chosen]
            self._unload(model, others, f"is not served, only {model.found.policy}")
        self._publish(model)
        if first is None and again:
            first = model.problem_of_wanted() or (None if done else model.nothing_to_load())
        return first

    async def _load(self, model: ManagedModel, version: ManagedVersion, *, more: bool) -> Failure | None:
        """Load a version. Raises Unavailable while the server drains."""
        found = model.found.versions[version.number]
        version.due = True
        self._publish(model)
        try:
            async with self._turn:
                if self._core.draining:
                    raise Unavailable("the server is stopping and no longer loads models")
                self._loads += 1
                began, outcome = perf_counter(), "failed"
                try:
                    spec = await self._loader.run(partial(self._load_model, found.model, more))
                    outcome = "loaded"
                except Exception as error:
                    return self._failed(model, version, found, error)
                finally:
                    self._loads -= 1
                    self._core.counts.loads[outcome].add(perf_counter() - began, 1)
            version.spec, version.loaded, version.failed, version.reason = spec, found, None, ""
            self._change_core(lambda core, _: core.models.add(spec))
            return None
        finally:
            version.due = False
            self._publish(model)

    def _failed(self, model: ManagedModel, version: ManagedVersion, found: FoundVersion, error: Exception) -> Failure:
        version.failed, version.reason = found, model.reason(error, version.number)
        if isinstance(error, HeadraceError):
            ends_start = self._starting and model.found.required  # whoever started the server is told that
            logger.log(logging.DEBUG if ends_start else logging.WARNING, "%s", error.message)
            logger.debug("%s", version.reason, exc_info=error)
        else:
            logger.warning("%s", version.reason, exc_info=error)
        return Failure(error, version.number)

    def _unload(self, model: ManagedModel, versions: Sequence[ManagedVersion], why: str) -> None:
        """To be published. `why` completes the error of requests: "model 'x' version 1 <why>"."""

        def remove(core: Core, _now: float) -> None:
            for version in versions:
                core.models.remove(model.name, str(version.number), why)

        if not versions:
            return
        self._change_core(remove)
        for version in versions:
            version.spec = version.loaded = None
            logger.info("unloaded model %s version %d: it %s", quote(model.name), version.number, why)
        model.discard_gone()

    async def _remove(self, model: ManagedModel, scanned: int) -> None:
        """The folder of a model has gone, unless a later scan has found it again."""
        if model.scanned >= scanned and not isinstance(model.found.problem, MissingError):
            return
        self._unload(model, model.serving, "has been removed")
        del self._models[model.name]
        (self._stay_unloaded.add if model.unloaded else self._stay_unloaded.discard)(model.name)
        self._core.models.forget(model.name)
        for service in (model.name, *(f"{model.name}/{number}" for number in model.published)):
            self._statuses.forget(service)

    def _publish(self, model: ManagedModel) -> None:
        """Tell the core why versions cannot be used, and probes which can."""
        models = self._core.models
        models.forget(model.name)
        for number in model.published - model.versions.keys():
            self._statuses.forget(f"{model.name}/{number}")
        model.published = set(model.versions)
        for number, version in model.versions.items():
            self._statuses.set(f"{model.name}/{number}", version.spec is not None)
            if version.spec is None:
                models.withhold(model.name, model.why(version), str(number))
        self._statuses.set(model.name, bool(model.serving))
        if not model.serving:
            models.withhold(model.name, model.why_none())

    def __repr__(self) -> str:
        serving = sum(len(model.serving) for model in self._models.values())
        return f"<Lifecycle {serving} versions of {len(self._models)} models serve, {self._loads} loading>"
