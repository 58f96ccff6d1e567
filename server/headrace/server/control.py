"""Loading and unloading of models while the server runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from headrace.server.core.core import Core
from headrace.server.core.specs import ModelSpec
from headrace.server.repository.named import NamedModel
from headrace.server.services.api import CONTROL_DISABLED, ModelState
from headrace.wire.errors import HeadraceError, NotFound, PermissionDenied, Unavailable, quote

logger = logging.getLogger(__name__)

Load = Callable[[NamedModel], ModelSpec]
"""Reads and compiles a model. Blocks for seconds; raises HeadraceError with a message for the operator."""


@dataclass(slots=True)
class _ManagedModel:
    """A model of the command line. `lock` is held while it is loaded or unloaded."""

    model: NamedModel
    loaded: bool = True
    loading: bool = False
    reason: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Control:
    """`services.api.Control` over the models of the command line, all of which are already loaded.

    `load` runs on a thread of its own. `change_core` is `Dispatcher.tell`, which also makes the engine free the models
    that the core no longer needs. `on_change(name, ready)` is called when a model becomes usable or unusable.
    """

    def __init__(
        self,
        models: Iterable[NamedModel],
        load: Load,
        core: Core,
        change_core: Callable[[Callable[[Core, float], None]], None],
        on_change: Callable[[str, bool], None],
        *,
        allowed: bool,
    ) -> None:
        self.allowed = allowed
        self._models = {model.name: _ManagedModel(model) for model in models}
        self._load_model = load
        self._core = core
        self._change_core = change_core
        self._on_change = on_change

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded, which cannot be stopped."""
        return any(managed.loading for managed in self._models.values())

    def index(self) -> Sequence[ModelState]:
        """The state of every model, sorted by name."""
        return [self._state(self._models[name]) for name in sorted(self._models)]

    async def load(self, name: str) -> None:
        """Load a model from disk. If it is already loaded, the old one serves until the new one replaces it.

        A load that fails changes nothing except the reason in the index. Raises PermissionDenied, NotFound, Unavailable
        while the server drains, and the error of a load that fails, with a message for clients.
        """
        managed = self._find(name)
        await managed.lock.acquire()
        # This goes on even if the client has gone: the thread cannot be stopped, and the model that it loads must not
        # go unnoticed.
        loading = asyncio.ensure_future(self._load(managed))
        loading.add_done_callback(lambda done: _settle(done, managed))
        await asyncio.shield(loading)

    async def unload(self, name: str) -> None:
        """Unload a model; its tickets in flight still finish. This has no effect on a model that is not loaded.

        Raises PermissionDenied and NotFound.
        """
        managed = self._find(name)
        async with managed.lock:
            if not managed.loaded:
                return
            managed.loaded, managed.reason = False, "unloaded"
            self._on_change(name, False)
            self._change_core(lambda core, _: core.models.remove(name, managed.model.version, "has been unloaded"))
            logger.info("unloaded %s", quote(name))

    def _find(self, name: str) -> _ManagedModel:
        if not self.allowed:
            raise PermissionDenied(CONTROL_DISABLED)
        managed = self._models.get(name)
        if managed is None:
            raise NotFound(f"there is no model {quote(name)}")
        return managed

    async def _load(self, managed: _ManagedModel) -> None:
        name = managed.model.name
        if self._core.draining:
            raise Unavailable("the server is stopping and no longer loads models")
        managed.loading = True
        if not managed.loaded:
            self._core.models.withhold(name, "is loading")
        try:
            spec = await _in_thread(self._load_model, managed.model)
        except Exception as error:
            managed.reason = _reason(name, error)
            if isinstance(error, HeadraceError):
                logger.warning("%s", error.message)
                logger.debug("%s", managed.reason, exc_info=error)
            else:
                logger.warning("%s", managed.reason, exc_info=error)
            if not managed.loaded:
                self._core.models.withhold(name, "could not be loaded")
            if isinstance(error, HeadraceError):
                raise type(error)(managed.reason) from error
            raise
        finally:
            managed.loading = False
        self._change_core(lambda core, _: core.models.add(spec))
        managed.loaded, managed.reason = True, ""
        self._on_change(name, True)

    def _state(self, managed: _ManagedModel) -> ModelState:
        model = managed.model
        reason = "loading" if managed.loading else managed.reason
        if managed.loaded:
            # Even while it is being reloaded.
            state = "READY"
        elif managed.loading:
            state = "LOADING"
        elif any(retired.spec.name == model.name for retired in self._core.models.retired):
            state = "UNLOADING"
        else:
            state = "UNAVAILABLE"
        return ModelState(model.name, model.version, state, reason)

    def __repr__(self) -> str:
        loaded = sum(managed.loaded for managed in self._models.values())
        loading = sum(managed.loading for managed in self._models.values())
        return f"<Control {loaded} of {len(self._models)} models loaded, {loading} loading>"


def _settle(loading: asyncio.Task[None], managed: _ManagedModel) -> None:
    """A load has ended. Its error is in the index and in the log, whether or not a client still waits for it."""
    managed.lock.release()
    if not loading.cancelled():
        loading.exception()


async def _in_thread(load: Load, model: NamedModel) -> ModelSpec:
    """Like asyncio.to_thread, but on a daemon thread, which does not delay the end of the process."""
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[ModelSpec] = loop.create_future()

    def settle(spec: ModelSpec | None, error: BaseException | None) -> None:
        if loaded.done():  # cancelled
            return
        if error is not None:
            loaded.set_exception(error)
        elif spec is not None:
            loaded.set_result(spec)

    def work() -> None:
        spec, error = None, None
        try:
            spec = load(model)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop may be closed
            loop.call_soon_threadsafe(settle, spec, error)

    threading.Thread(target=work, name=f"loading {model.name}", daemon=True).start()
    return await loaded


def _reason(name: str, error: Exception) -> str:
    """A message for clients. The error's own message is for the operator, since it names files."""
    why = "see the server's log"
    if isinstance(error, NotFound):
        why = "its file is missing"
    elif isinstance(error, Unavailable):
        why = "the server is stopping"
    return f"model {quote(name)} could not be loaded: {why}"
