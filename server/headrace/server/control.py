"""Models that come and go while the server runs."""

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
from headrace.server.services.api import NO_CONTROL, ModelState
from headrace.wire.errors import HeadraceError, NotFound, PermissionDenied, Unavailable, quote

logger = logging.getLogger(__name__)

Load = Callable[[NamedModel], ModelSpec]
"""Reads and compiles a model. Blocks for seconds, and raises HeadraceError with a sentence for the operator."""


@dataclass(slots=True)
class _Known:
    """A model of the command line. `turn` is held by what loads or unloads it."""

    model: NamedModel
    loaded: bool = True
    loading: bool = False
    reason: str = ""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Control:
    """`services.api.Control` over the models of the command line, which have all been loaded.

    `load` runs on a thread of its own. `tell` is the dispatcher's, which has the engine free what the core no longer
    needs. `changed(name, ready)` is called when a model becomes usable or unusable.
    """

    def __init__(
        self,
        models: Iterable[NamedModel],
        load: Load,
        core: Core,
        tell: Callable[[Callable[[Core, float], None]], None],
        changed: Callable[[str, bool], None],
        *,
        allowed: bool,
    ) -> None:
        self.allowed = allowed
        self._known = {model.name: _Known(model) for model in models}
        self._load_model = load
        self._core = core
        self._tell = tell
        self._changed = changed

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded, which nothing stops."""
        return any(known.loading for known in self._known.values())

    def index(self) -> Sequence[ModelState]:
        """Every model, by name."""
        return [self._state(self._known[name]) for name in sorted(self._known)]

    async def load(self, name: str) -> None:
        """Load a model from disk; if it is loaded, then anew, and the old one serves until it is replaced.

        When that fails nothing changes, except for the reason in the index. Raises PermissionDenied, NotFound,
        Unavailable while the server drains, and what loading raises, in words for clients.
        """
        known = self._find(name)
        await known.turn.acquire()
        # It goes on when the client that asked for it has gone: nothing stops the thread, and a model that it has
        # loaded must not stay with nobody to know of it.
        loading = asyncio.ensure_future(self._load(known))
        loading.add_done_callback(lambda _: known.turn.release())
        await asyncio.shield(loading)

    async def unload(self, name: str) -> None:
        """Take a model away from those who come; its tickets in flight end on it. Harmless when it is not loaded.

        Raises PermissionDenied and NotFound.
        """
        known = self._find(name)
        async with known.turn:
            if not known.loaded:
                return
            known.loaded, known.reason = False, "unloaded"
            self._changed(name, False)
            self._tell(lambda core, _: core.models.remove(name, known.model.version, "is unloaded"))
            logger.info("unloaded %s", quote(name))

    def _find(self, name: str) -> _Known:
        if not self.allowed:
            raise PermissionDenied(NO_CONTROL)
        known = self._known.get(name)
        if known is None:
            raise NotFound(f"there is no model {quote(name)}")
        return known

    async def _load(self, known: _Known) -> None:
        name = known.model.name
        if self._core.draining:
            raise Unavailable("the server is stopping and loads no models")
        known.loading = True
        if not known.loaded:
            self._core.models.withhold(name, "is loading")
        try:
            spec = await _in_thread(self._load_model, known.model)
        except Exception as error:
            known.reason = _reason(name, error)
            logger.warning("%s", known.reason, exc_info=error)
            if not known.loaded:
                self._core.models.withhold(name, "could not be loaded")
            if isinstance(error, HeadraceError):
                raise type(error)(known.reason) from error
            raise
        finally:
            known.loading = False
        self._tell(lambda core, _: core.models.add(spec))
        known.loaded, known.reason = True, ""
        self._changed(name, True)
        logger.info("loaded %r", self._core.models.find(name))

    def _state(self, known: _Known) -> ModelState:
        model = known.model
        reason = "loading" if known.loading else known.reason
        if known.loaded:
            # Also while it is loaded anew.
            state = "READY"
        elif known.loading:
            state = "LOADING"
        elif any(retired.spec.name == model.name for retired in self._core.models.retired):
            state = "UNLOADING"
        else:
            state = "UNAVAILABLE"
        return ModelState(model.name, model.version, state, reason)

    def __repr__(self) -> str:
        loaded = sum(known.loaded for known in self._known.values())
        loading = sum(known.loading for known in self._known.values())
        return f"<Control {loaded} of {len(self._known)} models loaded, {loading} loading>"


async def _in_thread(load: Load, model: NamedModel) -> ModelSpec:
    """As asyncio.to_thread, but on a thread that the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[ModelSpec] = loop.create_future()

    def settle(spec: ModelSpec | None, error: BaseException | None) -> None:
        if loaded.done():  # nobody waits any more
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
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, spec, error)

    threading.Thread(target=work, name=f"loading {model.name}", daemon=True).start()
    return await loaded


def _reason(name: str, error: Exception) -> str:
    """What clients are told: the error's own words are the operator's, and name files."""
    why = "its file is not there" if isinstance(error, NotFound) else "the server's log says why"
    return f"model {quote(name)} could not be loaded: {why}"
