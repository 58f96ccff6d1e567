"""What the workers have in common, as their parent keeps it: models, decisions, and what is done to all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Protocol

from headrace.server.core.models import no_model
from headrace.server.engine.findings import Findings
from headrace.server.lifecycle.lifecycle import unreadable
from headrace.server.repository.scan import Disk, FoundModel, Scan, UnreadableRepositoryError
from headrace.server.repository.watching import Changes
from headrace.server.workers import order as orders
from headrace.server.workers.link import ClosedError, Link
from headrace.server.workers.order import PeerAnswer, RemoteRpc, State, ToLoad
from headrace.wire.errors import HeadraceError, NotFound, Unavailable
from headrace.wire.lru import LruCache

ANSWER_SECONDS = 5.0
"""How long a worker may take to say something of itself."""
MAX_FINDINGS = 4096

logger = logging.getLogger(__name__)


class Sibling(Protocol):
    """A worker, as the others know it."""

    number: int
    link: Link
    told: bool
    """Whether it is told of changes: it has begun to load what there is."""

    @property
    def serves(self) -> bool:
        """Whether it listens: it has loaded all that."""


class Group:
    """`siblings` are the workers that live, by number, at any time."""

    def __init__(self, disk: Disk, siblings: Collection[Sibling], load_timeout: float) -> None:
        self._disk = disk
        self._siblings = siblings
        self._load_seconds = None if load_timeout > 1e6 else 60 + 4 * load_timeout
        self._scan: Scan | None = None
        """What the workers have been told of."""
        self._unloaded: set[str] = set()
        self._turns: dict[str, asyncio.Lock] = {}
        """By model: all workers change it in the same order."""
        self._findings = LruCache[str, Findings](MAX_FINDINGS)
        self._trying: Sibling | None = None
        self._commands = asyncio.Lock()
        """Held while `_state` changes."""
        self._state = State()

    # ------------------------------------------------------------------------------------------------------- models

    async def begin(self, sibling: Sibling) -> ToLoad:
        """What a worker is to load; from now on it is told of changes. Raises UnreadableRepositoryError."""
        if self._scan is None:
            self._scan = await asyncio.to_thread(self._disk.scan)
            for remark in self._scan.remarks:
                logger.warning("%s", remark)
        async with self._commands:
            sibling.told = True
            return ToLoad(replace(self._scan, remarks=()), frozenset(self._unloaded), self._state)

    @property
    def known(self) -> Scan:
        """What the workers have been told of."""
        assert self._scan is not None
        return self._scan

    async def catch_up(self) -> None:
        """A worker is to be replaced, and finds on disk only what is there now: so all load that."""
        try:
            scan = await asyncio.to_thread(self._disk.scan)
        except UnreadableRepositoryError as error:
            logger.warning("%s; what was loaded from it stays", error)
            return
        before = self.known.models
        models = [found for name, found in scan.models.items() if found != before.get(name)]
        removed = [name for name in before if name not in scan.models]
        if models or removed:
            logger.warning("models have changed on disk since they were loaded: all workers load them again")
            await self.refresh(Changes(scan.number, models, removed))

    async def refresh(self, changes: Changes) -> None:
        """Follow the disk, in all workers."""
        for remark in changes.remarks:
            logger.warning("%s", remark)
        for name in changes.removed:
            async with self._turn(name):
                self._know(name, None, changes.number)
                await self._refresh(Changes(changes.number, (), (name,)))
        for found in changes.models:
            async with self._turn(found.name):
                self._know(found.name, found, changes.number)
                await self._refresh(Changes(changes.number, (found,), ()))

    async def _refresh(self, changes: Changes) -> None:
        try:
            await self._change(orders.REFRESH, changes)
        except HeadraceError as error:  # what is wrong with a model is in each worker's index, so this is not that
            logger.warning("changes on disk were not followed everywhere: %s", error.message)

    async def load(self, name: str) -> None:
        """Load a model in all workers. Raises what the first of them raises, or else names one that cannot."""
        async with self._turn(name):
            try:
                scan = await asyncio.to_thread(self._disk.scan)
            except UnreadableRepositoryError as error:
                logger.warning("%s", error)
                raise unreadable(name) from error
            found = scan.models.get(name)
            if found is None and name not in self.known.models:
                raise NotFound(no_model(name, self.known.models))
            if found is not None:
                self._know(name, found, scan.number)
            self._unloaded.discard(name)
            models = {} if found is None else {name: found}
            await self._change(orders.LOAD, (name, replace(scan, models=models, remarks=())))

    async def unload(self, name: str) -> None:
        """The same for its end."""
        async with self._turn(name):
            if name not in self.known.models and name not in self._unloaded:
                raise NotFound(no_model(name, self.known.models))
            self._unloaded.add(name)
            await self._change(orders.UNLOAD, name)

    def _turn(self, name: str) -> asyncio.Lock:
        # Only names of models, and one more while a client asks for what there is not.
        for unused in [each for each, lock in self._turns.items() if not lock.locked() and each != name]:
            del self._turns[unused]
        return self._turns.setdefault(name, asyncio.Lock())

    def _know(self, name: str, found: FoundModel | None, number: int) -> None:
        models = {**self.known.models}
        if found is None:
            models.pop(name, None)
        else:
            models[name] = found
        self._scan = Scan(max(number, self.known.number), models)

    # ---------------------------------------------------------------------------------------------------- decisions

    def findings(self, key: str) -> Findings | None:
        return self._findings.get(key)

    def keep(self, key: str, findings: Findings) -> Findings:
        """Returns those that are kept: the first ones of this key."""
        kept = self._findings.get(key)
        if kept is None:
            self._findings.put(key, findings)
        return kept or findings

    def try_turn(self, sibling: Sibling) -> bool:
        """Whether it is this worker's turn to try a model."""
        if self._trying is not None and self._trying in self._siblings:
            return False
        self._trying = sibling
        return True

    def turn_over(self, sibling: Sibling) -> None:
        if self._trying is sibling:
            self._trying = None

    # --------------------------------------------------------------------------------------------------------- calls

    async def ask_peers(self, asking: Sibling, rpc: RemoteRpc) -> Sequence[PeerAnswer]:
        """What all the others answer to a call that serve."""
        others = [each for each in self._told() if each is not asking and each.serves]
        return await asyncio.gather(*(self._ask_peer(each, rpc) for each in others))

    async def _ask_peer(self, sibling: Sibling, rpc: RemoteRpc) -> PeerAnswer:
        try:
            response = await sibling.link.asked(orders.RPC, rpc, ANSWER_SECONDS)
        except TimeoutError:
            return PeerAnswer(sibling.number, None, f"has not answered for {ANSWER_SECONDS:g} s")
        except ClosedError:
            return PeerAnswer(sibling.number, None, "has ended")
        except HeadraceError as error:
            return PeerAnswer(sibling.number, None, f"has failed: {error.message}")
        except RuntimeError as error:
            logger.warning("worker %d: %s", sibling.number, error)
            return PeerAnswer(sibling.number, None, "has failed; its log says why")
        return PeerAnswer(sibling.number, response)

    async def command(self, rpc: RemoteRpc, undo: RemoteRpc | None) -> bytes:
        """Carry out a call in all workers, one after another. Returns the answer of the first.

        If one fails, those before it get `undo`, if there is any, and its error is raised.
        """
        async with self._commands:
            done: list[Sibling] = []
            first: bytes | None = None
            for sibling in self._told():
                answer = await self._command(sibling, rpc, done, undo)
                if answer is not None:
                    first = first if first is not None else answer
                    done.append(sibling)
            if first is None:
                raise Unavailable("no worker is there")
            self._state = await self._ask(done[0], orders.STATE, None) or self._state
            return first

    async def _command(
        self, sibling: Sibling, rpc: RemoteRpc, done: Sequence[Sibling], undo: RemoteRpc | None
    ) -> bytes | None:
        """The answer of a worker; None if it has gone meanwhile, so that another one will begin like the others."""
        try:
            answer: bytes = await sibling.link.asked(orders.RPC, rpc, ANSWER_SECONDS)
            return answer
        except ClosedError:
            return None
        except (TimeoutError, HeadraceError) as error:
            for each in done if undo is not None else ():
                await self._ask(each, orders.RPC, undo)
            if isinstance(error, TimeoutError):
                raise Unavailable(f"worker {sibling.number} has not answered for {ANSWER_SECONDS:g} s") from None
            raise

    async def _ask(self, sibling: Sibling, kind: str, content: Any) -> Any:
        """The answer of a worker, or None."""
        try:
            return await sibling.link.asked(kind, content, ANSWER_SECONDS)
        except (TimeoutError, ClosedError, HeadraceError) as error:
            logger.warning("worker %d has not answered %r: %r", sibling.number, kind, error)
            return None

    async def read_again(self) -> None:
        """Files that say who may call have changed: all workers read them now."""
        await asyncio.gather(*(self._ask(each, orders.RELOAD, None) for each in self._told()))

    # ------------------------------------------------------------------------------------------------------- changes

    def _told(self) -> list[Sibling]:
        return sorted((each for each in self._siblings if each.told), key=lambda each: each.number)

    async def _change(self, kind: str, content: Any) -> None:
        """Let a model change in the first worker, and then, when its trial is known, in the others.

        They all try, so that all know what is wrong.
        """
        siblings = self._told()
        errors = [await self._change_one(each, kind, content) for each in siblings[:1]]
        errors += await asyncio.gather(*(self._change_one(each, kind, content) for each in siblings[1:]))
        if errors and errors[0] is not None:
            raise errors[0]
        for sibling, error in zip(siblings, errors, strict=True):
            if error is not None:
                error.message = f"worker {sibling.number}: {error.message}"
                raise error

    async def _change_one(self, sibling: Sibling, kind: str, content: Any) -> HeadraceError | None:
        try:
            await sibling.link.asked(kind, content, self._load_seconds)
        except HeadraceError as error:
            return error
        except ClosedError:  # the one that replaces it begins with this
            return None
        except TimeoutError:
            return Unavailable("it has not answered in time")
        except RuntimeError as error:
            logger.warning("worker %d: %s", sibling.number, error)
            return Unavailable("its log says why")
        return None

    def __repr__(self) -> str:
        return f"<Group of {len(self._told())} workers>"
