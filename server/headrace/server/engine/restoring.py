"""Restores slots whose compiled model a failed run has spoiled, on a thread of its own.

Each node of a dynamic graph of the CPU plugin (openvino 2026.4) keeps the input shapes with which it was last executed,
and infers its output shapes again only when the next ones differ. But before the plugin executes the nodes between two
points of synchronisation, it prepares the shapes, memory and kernels of all of them. So when one of them fails, or the
run is cancelled between two of them, the nodes behind it are prepared for that run while they still know the shapes of
an earlier one. The next run of *those* earlier shapes seems to change nothing: its result has the shape of the failed
run or is whatever the memory holds, or the process ends. This state belongs to the graph of a stream, not to an
InferRequest, and nothing resets it. `python -m tests.server.engine.spoiling` shows it in plain OpenVINO: after a
cancelled run of a chain of MatMuls 43 of 60 runs were wrong, after a failed GatherElements all 60.

So every slot of a dynamic model has a compiled model of its own, with one stream, and after a run that raised, for
whatever reason, the slot is not used before it has been restored:

- It is *cleansed* by a run of zeros in the shapes of the failed run. Every node has then been executed with the shapes
  for which it was prepared. That requires that no shape inside depends on data, that the shapes were not the reason for
  the failure, and that the run of zeros succeeds.
- Otherwise its compiled model is *replaced* by another one.

A run that is no longer wanted is not stopped unless it goes on for longer than replacing takes, because a stopped run's
slot must be replaced.
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
"""How long `close` waits for a compilation in progress: longer than most take."""

Restored = Callable[[Slot, Slot | None], None]


class Restorer:
    """Restores slots, one after another. `restored` is called on its thread with a slot and the slot to take its place.

    That is the same slot if it was cleansed, and None if a replacement could not be made, of which lack of memory is
    the only known cause.
    """

    def __init__(self, restored: Restored) -> None:
        self._restored = restored
        self._spoiled: SimpleQueue[tuple[CompiledModel, Slot] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def restore(self, model: CompiledModel, slot: Slot) -> None:
        """Restore a slot whose run has ended. It must not be used until `restored` has been called."""
        if self._thread is None:
            # A daemon thread, so that the process does not wait for a compilation at its end.
            self._thread = threading.Thread(target=self._work, name="restorer", daemon=True)
            self._thread.start()
        self._spoiled.put((model, slot))

    def close(self) -> None:
        """Stop restoring. Blocks for a compilation in progress, but at most for STOP_SECONDS."""
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
        slot.close()  # first, because the new slot may need its memory
        new = slot.replacement(model)
    except Exception:  # of any kind: the thread must survive to restore other slots
        logger.exception("model %s: cannot restore a slot after a failed run", name)
        return None
    logger.info("model %s: replaced a slot after a failed run (%.3f s)", name, perf_counter() - began)
    return new
