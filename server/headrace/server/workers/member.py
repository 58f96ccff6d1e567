"""A worker: a server that loads what its parent says, listens where all workers do, and answers for all of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from headrace.server.access import Access
from headrace.server.composition import Application
from headrace.server.lifecycle.lifecycle import Lifecycle
from headrace.server.loading.cache import Cache
from headrace.server.loading.loader import FindingsCache
from headrace.server.presence import CannotServeError, Opening, count_of_models
from headrace.server.repository.scan import Scan
from headrace.server.repository.watching import Changes
from headrace.server.security.guard import Guard
from headrace.server.server import run_as
from headrace.server.server_readings import ServerReadings
from headrace.server.services.api import CONTROL_DISABLED, Control, ModelState
from headrace.server.services.call import Service
from headrace.server.services.oip.region import Region
from headrace.server.transport.addresses import CannotListenError
from headrace.server.workers import order as orders
from headrace.server.workers.calls import CallsOfAll
from headrace.server.workers.decisions import SharedFindings
from headrace.server.workers.link import ClosedError, Link
from headrace.server.workers.order import Joined, Order, RegisteredRegion, State, ToLoad, WorkerReadings
from headrace.server.workers.shares import share_of_model
from headrace.wire.errors import FailedPrecondition, HeadraceError, PermissionDenied, Unavailable, quote
from headrace.wire.memory import resident_bytes

logger = logging.getLogger(__name__)


def serve_as_member(link: Link, order: Order) -> int:
    """Serve until a signal asks for the end. Returns the exit code."""
    member = Member(link, order)
    return run_as(member, member, order.settings)


class Member:
    """`presence.Presence`, and `composition.Scanner`: the parent looks at the disk."""

    def __init__(self, link: Link, order: Order) -> None:
        self.number, self.count = order.number, order.count
        self._link = link
        self._order = order
        self._application: Application
        self._calls: CallsOfAll
        self._readings: ServerReadings
        self._read_again: Callable[[], None] = _nothing
        self._guard: Guard | None = None
        self._lifecycle: Lifecycle | None = None
        self._state = State()
        """What is still to be made as it is in other workers."""

    def scan(self) -> Scan:
        """What to load at the start. On a thread."""
        begin: ToLoad = self._link.ask(orders.SCAN)
        assert self._lifecycle is not None
        self._lifecycle.leave_unloaded(begin.unloaded)
        self._state = begin.state
        return self._share(begin.scan)

    def cache(self, folder: Cache | None) -> FindingsCache:
        return SharedFindings(self._link, folder)

    def control(self, lifecycle: Lifecycle) -> Control:
        self._lifecycle = lifecycle
        return _ControlOfAll(lifecycle, self._link)

    def services(self, application: Application) -> Sequence[Service]:
        self._application = application
        self._calls = CallsOfAll(application.services, self._link, self.number, self._client_named)
        return self._calls.services

    async def begin(self, opening: Opening) -> None:
        self._guard = opening.access.guard
        self._readings = ServerReadings(opening.application)
        self._link.answer_with(self._answer)

    async def loaded(self, opening: Opening, known: Scan) -> None:
        """Listen now, so that whoever connects finds the models, and be ready when all workers are."""
        self._restore()
        try:
            opening.server.listen(self._order.addresses, opening.access.current_certificates)
        except CannotListenError as error:
            raise CannotServeError(f"{error}") from None
        await opening.server.start()
        await self._link.asked(orders.JOINED, Joined(count_of_models(opening.application), opening.transport))
        opening.application.health.begin()

    def follow(self, access: Access, changed: Callable[[], None]) -> None:
        """The parent does, and says when all are to read them."""

        def read_again() -> None:
            access.read_again()
            changed()

        self._read_again = read_again

    def end(self) -> None:
        pass

    async def _answer(self, kind: str, content: Any) -> Any:
        """What the parent asks."""
        lifecycle = self._lifecycle
        assert lifecycle is not None
        if kind == orders.LOAD:
            name, scan = content
            await lifecycle.load(name, self._share(scan))
        elif kind == orders.UNLOAD:
            await lifecycle.unload(content)
        elif kind == orders.REFRESH:
            await lifecycle.refresh(self._share_changes(content))
        elif kind == orders.RPC:
            self._restore()
            return await self._calls.answer(content)
        elif kind == orders.STATE:
            return self._current_state()
        elif kind == orders.RELOAD:
            await asyncio.to_thread(self._read_again)
        elif kind == orders.READINGS:
            return WorkerReadings(self._readings.read(), resident_bytes())
        else:
            raise RuntimeError(f"a worker does not answer {kind!r}")
        return None

    def _client_named(self, name: str | None) -> Hashable:
        return None if name is None or self._guard is None else self._guard.client_named(name)

    def _current_state(self) -> State:
        """What clients have changed."""
        level, regions = logging.getLogger("headrace").level, self._application.regions
        return State(level, [] if regions is None else [_registered(*each) for each in regions.registered()])

    def _restore(self) -> None:
        """Make what clients have changed as it is in other workers, once."""
        state, self._state = self._state, State()
        if state.log_level:
            logging.getLogger("headrace").setLevel(state.log_level)
        for each in state.regions:
            try:
                self._register(each)
            except HeadraceError as error:
                logger.warning("shared memory is not there any more in this worker: %s", error.message)

    def _register(self, region: RegisteredRegion) -> None:
        """Raises HeadraceError: the object may have gone, or another one may have its key."""
        if self._application.regions is None:
            return
        registry = self._application.regions.of(self._client_named(region.owner))
        registry.register(region.name, region.key, region.offset, region.byte_size)
        (registered,) = registry.status(region.name)
        if object_of(registered) != region.object:
            registry.unregister(region.name)
            raise FailedPrecondition(f"{quote(region.key)} is another object than that of region {quote(region.name)}")

    def _share(self, scan: Scan) -> Scan:
        count, threads = self.count, self._order.processors.threads
        models = {name: share_of_model(found, count, threads) for name, found in scan.models.items()}
        return replace(scan, models=models)

    def _share_changes(self, changes: Changes) -> Changes:
        count, threads = self.count, self._order.processors.threads
        return replace(changes, models=[share_of_model(found, count, threads) for found in changes.models])

    def __repr__(self) -> str:
        return f"<Member {self.number} of {self.count}>"


def _nothing() -> None:
    pass


def _registered(owner: str | None, region: Region) -> RegisteredRegion:
    return RegisteredRegion(owner, region.name, region.key, region.offset, region.byte_size, object_of(region))


def object_of(region: Region) -> tuple[int, int]:
    """What tells that a region is of the same shared memory object as another one."""
    status = os.fstat(region.descriptor)
    return status.st_dev, status.st_ino


class _ControlOfAll:
    """`services.api.Control`: what a client of this worker asks for happens in all, and the parent sees to it."""

    def __init__(self, lifecycle: Lifecycle, link: Link) -> None:
        self._lifecycle = lifecycle
        self._link = link

    @property
    def allowed(self) -> bool:
        return self._lifecycle.allowed

    def index(self) -> Sequence[ModelState]:
        return self._lifecycle.index()

    async def load(self, name: str) -> None:
        await self._ask(orders.LOAD, name)

    async def unload(self, name: str) -> None:
        await self._ask(orders.UNLOAD, name)

    async def _ask(self, kind: str, name: str) -> None:
        if not self.allowed:
            raise PermissionDenied(CONTROL_DISABLED)
        try:
            await self._link.asked(kind, name)
        except ClosedError:
            raise Unavailable("the server is stopping") from None
