"""Direct runs: in place, on the caller's thread, where that is done sooner than handing over.

An asynchronous run costs a hop besides itself: to a thread of the runtime and back to the event loop. A run that takes
less than a hop is done sooner in place, and several times sooner on a model compiled for it. What runs in place holds
up everybody else, so it is done only where it was measured: at this size, on this slot, with shapes that the slot has
run before (the first run of a new shape may take a hundred times as long).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine import shapes
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.operations import why_unsafe
from headrace.wire.dtypes import ITEMSIZE, Datatype
from headrace.wire.errors import quote

HOP = 400e-6
"""Seconds; what runs longer is run asynchronously. Handing over to the runtime's thread and back to an event loop that
has other work costs 0.1 to 0.7 ms: a chain of runs of 0.16 ms made 1.1 k/s handed over and 3.3 k/s in place."""
TRIAL = 2e-3
"""Seconds: what took longer asynchronously, hop included, is not even tried in place."""
TRIALS = 3
"""A machine that is busy makes one run look slow; so many in a row it hardly does."""
FIRST = 200
"""Milliseconds after which the first run, which prepares the others, is given up."""
AGAIN = 256
"""After so many asynchronous runs there is one more trial, in case it did."""
LARGEST = 64 << 20
"""Bytes of weights from which on a model is not compiled twice to find out: reading them takes longer than a hop."""
MOST_TIMES = 1024

logger = logging.getLogger(__name__)


class Times:
    """What a slot knows of its runs, by the shapes of their inputs."""

    def __init__(self) -> None:
        self._best: dict[object, tuple[float, float]] = {}
        """The fastest time, and how many trials were slow."""

    def quick(self, shapes: object) -> bool:
        """Whether a run with these shapes may be done in place."""
        known = self._best.get(shapes)
        return known is not None and (known[0] < HOP or known[1] <= TRIALS - 1)

    def fast(self, shapes: object) -> bool:
        """Whether there is no doubt that a run with these shapes takes less than a hop."""
        known = self._best.get(shapes)
        return known is not None and known[0] < HOP

    def handed_over(self, shapes: object, seconds: float) -> None:
        """An asynchronous run has completed, so many seconds after its start."""
        known = self._best.get(shapes)
        if known is not None:
            self._best[shapes] = (known[0], known[1] - 1 / AGAIN)
        elif seconds < TRIAL:
            if len(self._best) == MOST_TIMES:
                self._best.clear()
            self._best[shapes] = (seconds, 0)

    def in_place(self, shapes: object, seconds: float) -> None:
        """A direct run has taken so many seconds."""
        best, trials = self._best[shapes]
        if best >= HOP:
            self._best[shapes] = (min(best, seconds), trials + 1)


def infer_in_place(request: ov.InferRequest) -> None:
    """`request.infer()` of what was set.

    Without the results, which nobody looks at: what the class adds to its base are a look at inputs that are not given
    and a dict around the outputs, 2 us, or 5 in a chain, where each run leaves nothing else in the processor's caches.
    """
    try:
        super(ov.InferRequest, request).infer({}, share_outputs=True, decode_strings=False)
    except TypeError:  # another version's base takes something else
        request.infer(share_outputs=True)


def compile_direct(
    core: ov.Core,
    model: ov.Model,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    compilation: Compilation,
) -> ov.CompiledModel | None:
    """The model compiled for direct runs; None when it shall not be. Raises what the runtime raises.

    Models of strings are not: a direct run copies every output of them, asked for or not. Nor are those that may fail
    because of data: a direct run would not say so.
    """
    if compilation.run == "async" or any(port.datatype is Datatype.BYTES for port in (*inputs, *outputs)):
        return None
    measured = compilation.run == "auto"
    if measured and (compilation.device != "CPU" or weights(model) > LARGEST):
        return None
    unsafe = why_unsafe(model)
    if unsafe is None and not shapes.follow(model, inputs):
        unsafe = "shapes inside depend on data"
    if unsafe is not None:
        logger.info("model %s: no direct runs: %s", quote(model.get_friendly_name()), unsafe)
        return None
    compiled = core.compile_model(model, compilation.device, compilation.direct_configuration)
    try:
        return compiled if not measured or _fastest(compiled, inputs) < HOP else None
    except RuntimeError:
        return None  # it does not run on zeros, so nothing is known of it


def _fastest(compiled: ov.CompiledModel, inputs: Sequence[Port], most: int = 20) -> float:
    """Seconds of the fastest of a few runs on zeros of the smallest shape."""
    request = compiled.create_infer_request()
    for port in inputs:
        shape = [max(1, dimension.min) for dimension in port.shape or ()]
        data = np.zeros(math.prod(shape) * ITEMSIZE[port.datatype], np.uint8)
        element_type = compiled.inputs[port.index].get_element_type()
        request.set_input_tensor(port.index, ov.Tensor(data, shape, element_type))
    request.start_async()
    if not request.wait_for(FIRST):
        request.cancel()
        with suppress(RuntimeError):
            request.wait()
        return math.inf
    fastest, end = math.inf, time.perf_counter() + 100 * HOP
    for _ in range(most):
        began = time.perf_counter()
        request.infer(share_outputs=True)
        fastest = min(fastest, time.perf_counter() - began)
        if time.perf_counter() > end:
            break
    return fastest


def weights(model: ov.Model) -> int:
    """Bytes of the constants of a model."""
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")
