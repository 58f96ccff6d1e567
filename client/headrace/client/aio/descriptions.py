"""Asking a server for the descriptions of its models, in the background or when an inference depends on one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from headrace.client.protocol.call_description import Names
from headrace.client.protocol.inputs import NormalInputs
from headrace.client.protocol.known_models import DescriptionNeeded, KnownModels, ModelKey, Untold, key_of
from headrace.client.protocol.models import Model
from headrace.wire.errors import Unavailable, quote
from headrace.wire.lru import LruCache

ASK_AGAIN_AFTER = 5.0
"""Seconds until a server that did not give a description is asked again."""
ASK_TIMEOUT = 5.0
"""Seconds that an inference waits for the description that it depends on."""
MAX_ASKING = 8
"""Questions under way that nobody waits for."""
MAX_REFRESHES = 3
"""How often one inference asks for the description of its model, which others may find out of date meanwhile."""

logger = logging.getLogger(__name__)


class Descriptions:
    """The descriptions of the models of one server. Each is asked for once, and again when it may be out of date."""

    def __init__(self, describe: Callable[[str, str | None], Awaitable[Model]]) -> None:
        self.known = KnownModels(self._want)
        self._describe = describe
        self._asking: dict[ModelKey, asyncio.Task[None]] = {}
        self._untold_at = LruCache[ModelKey, float](256)

    async def refresh(self, key: ModelKey, timeout: float | None = None) -> None:
        """Ask for a description, and wait for the answer. Then inputs are checked against it, if there is one."""
        asking = self._asking.get(key) or self._ask(key)
        await asyncio.wait([asking], timeout=ASK_TIMEOUT if timeout is None else min(timeout, ASK_TIMEOUT))
        if not asking.done():
            self.known.put(key, Untold())

    async def fit(
        self, names: Names, inputs: NormalInputs, plain: Collection[str], timeout: float | None
    ) -> NormalInputs:
        """The inputs as the model takes them, according to a fresh description. Raises what is wrong with them."""
        for _ in range(MAX_REFRESHES):
            await self.refresh(key_of(names), timeout)
            try:
                return self.known.fit(names, inputs, plain)
            except DescriptionNeeded as needed:
                if needed.error is not None:
                    raise needed.error from None
        raise changes_too_often(names)

    async def close(self) -> None:
        """Ask no more."""
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _want(self, key: ModelKey) -> None:
        if key in self._asking or len(self._asking) >= MAX_ASKING:
            return
        untold_at = self._untold_at.get(key)
        if untold_at is None or asyncio.get_running_loop().time() >= untold_at + ASK_AGAIN_AFTER:
            self._ask(key)

    def _ask(self, key: ModelKey) -> asyncio.Task[None]:
        task = asyncio.create_task(self._answer(key), name=f"headrace description of {key[0]}")
        self._asking[key] = task
        return task

    async def _answer(self, key: ModelKey) -> None:
        name, version = key
        try:
            self.known.put(key, await self._describe(name, version or None))
            self._untold_at.pop(key)
        except Exception as error:  # of whatever kind: who asks for an inference gets the server's own answer to it
            logger.debug("the server did not describe model %r: %s", name, error)
            self.known.put(key, Untold())
            self._untold_at.put(key, asyncio.get_running_loop().time())
        finally:
            del self._asking[key]


def changes_too_often(names: Names) -> Unavailable:
    return Unavailable(f"the ports of model {quote(names[0])} change too often for its inputs to be converted")
