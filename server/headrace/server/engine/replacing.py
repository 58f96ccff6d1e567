"""Compiled models that a failed run has spoiled are replaced, on a thread of their own.

The CPU plugin (2026.4) keeps in each node of a dynamic graph the input shapes with which that node was last executed,
and infers its output shapes anew only when the coming ones are others. But before it executes the nodes between two
points of synchronisation, it prepares the shapes, memory and kernels of all of them. So when one of them fails, or the
run is cancelled between two, those behind it are prepared for that run while they still know the shapes of an earlier
one. To the next run of *those* shapes nothing seems to have changed: it gives a result in the shape of the failed run,
or of memory that happens to be there, or ends the process. The state belongs to the graph of a stream, not to an
InferRequest, and nothing resets it. tests/server/engine/test_spoiled.py shows it in plain OpenVINO: after a cancelled
run of a row of MatMuls 60 of 60 runs were wrong.

Therefore every slot of a dynamic model has a compiled model of its own, with one stream; after a run that raised, for
whatever reason, it gets another one before anybody gets the slot; and a run that nobody wants is not stopped unless it
goes on for longer than replacing takes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter

from headrace.server.engine.models import CompiledModel
from headrace.server.engine.slots import Slot
from headrace.wire.errors import quote

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long `close` waits for a model that is being compiled: longer than most take."""

Replaced = Callable[[Slot, Slot | None], None]


class Replacer:
    """Makes slots anew, one after the other. `replaced` is called with the old slot and the new one on its thread.

    The new one is None when it could not be made, for which there is no reason but a lack of memory.
    """

    def __init__(self, replaced: Replaced) -> None:
        self._replaced = replaced
        self._spoiled: SimpleQueue[tuple[CompiledModel, Slot] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def replace(self, model: CompiledModel, slot: Slot) -> None:
        """Have a slot in which nothing runs any more replaced."""
        if self._thread is None:
            # A daemon: the end of the process waits for no compilation.
            self._thread = threading.Thread(target=self._work, name="replacer", daemon=True)
            self._thread.start()
        self._spoiled.put((model, slot))

    def close(self) -> None:
        """Replace nothing more."""
        if self._thread is not None:
            self._spoiled.put(None)
            self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        while (spoiled := self._spoiled.get()) is not None:
            model, slot = spoiled
            # What is replaced is of no use, and its memory may be what the new one needs.
            slot.close()
            self._replaced(slot, _another(model, slot))


def _another(model: CompiledModel, slot: Slot) -> Slot | None:
    name = quote(model.spec.name)
    began = perf_counter()
    try:
        new = slot.another(model)
    except Exception:
        logger.exception("model %s: a compiled model that a failed run has spoiled cannot be replaced", name)
        return None
    logger.info("model %s: replaced a compiled model after a failed run (%.3f s)", name, perf_counter() - began)
    return new
