"""Compiled models that a failed run has spoiled are restored, on a thread of their own.

The CPU plugin (2026.4) keeps in each node of a dynamic graph the input shapes with which that node was last executed,
and infers its output shapes anew only when the coming ones are others. But before it executes the nodes between two
points of synchronisation, it prepares the shapes, memory and kernels of all of them. So when one of them fails, or the
run is cancelled between two, those behind it are prepared for that run while they still know the shapes of an earlier
one. To the next run of *those* shapes nothing seems to have changed: it gives a result in the shape of the failed run,
or of memory that happens to be there, or ends the process. The state belongs to the graph of a stream, not to an
InferRequest, and nothing resets it. `python -m tests.server.engine.spoiling` shows it in plain OpenVINO: after a
cancelled run of a row of MatMuls 43 of 60 runs were wrong, after a failed GatherElements all.

Therefore every slot of a dynamic model has a compiled model of its own, with one stream, and after a run that raised,
for whatever reason, nobody gets the slot before it was restored:

- It is *cleansed* by a run of zeros in the shapes of the failed one. Every node is then executed, or was, with the
  shapes that it was prepared for. That holds where no shape inside depends on data, where it was not the shapes that
  failed, and if that run succeeds.
- Otherwise its compiled model is *replaced* by another one.

A run that nobody wants is not stopped, unless it goes on for longer than replacing takes: what is stopped must be
replaced.
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

Restored = Callable[[Slot, Slot | None], None]


class Restorer:
    """Restores slots, one after the other. `restored` is called on its thread with a slot and the one for its place.

    That is the same one if it was cleansed, and None if no other could be made, for which there is no reason but a lack
    of memory.
    """

    def __init__(self, restored: Restored) -> None:
        self._restored = restored
        self._spoiled: SimpleQueue[tuple[CompiledModel, Slot] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def restore(self, model: CompiledModel, slot: Slot) -> None:
        """Have a slot restored in which nothing runs any more. Nobody else may touch it until then."""
        if self._thread is None:
            # A daemon: the end of the process waits for no compilation.
            self._thread = threading.Thread(target=self._work, name="restorer", daemon=True)
            self._thread.start()
        self._spoiled.put((model, slot))

    def close(self) -> None:
        """Restore nothing more."""
        if self._thread is not None:
            self._spoiled.put(None)
            self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        while (spoiled := self._spoiled.get()) is not None:
            model, slot = spoiled
            self._restored(slot, _restore(model, slot))


def _restore(model: CompiledModel, slot: Slot) -> Slot | None:
    name = quote(model.spec.name)
    began = perf_counter()
    try:
        if slot.cleanse():
            return slot
        slot.close()  # it is of no use, and its memory may be what the new one needs
        new = slot.another(model)
    except Exception:  # of any kind: without this thread no slot would ever be restored
        logger.exception("model %s: a compiled model that a failed run has spoiled cannot be restored", name)
        return None
    logger.info("model %s: replaced a compiled model after a failed run (%.3f s)", name, perf_counter() - began)
    return new
