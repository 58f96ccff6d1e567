"""Whether a model runs directly, in place: only if it cannot fail because of data and was measured to be quick."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import openvino as ov

from headrace.server.core.specs import Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.direct_runs import THREAD_HOP_SECONDS
from headrace.server.engine.graph import shapes
from headrace.server.engine.graph.safety import why_unsafe
from headrace.server.engine.probing.processor_share import MAX_ATTEMPTS, ProcessorShare
from headrace.wire.dtypes import ITEMSIZE, Datatype

FIRST_RUN_MILLISECONDS = 200
"""How long the first run, which prepares the others, may take before the probe gives up."""
MAX_TIMED_RUNS = 20
MAX_TIMING_SECONDS = 100 * THREAD_HOP_SECONDS
MAX_WEIGHT_BYTES = 64 << 20
"""A model with more weights is not compiled a second time to find out: reading them takes longer than a hop."""


class Direct(NamedTuple):
    """The model compiled for direct runs; or None, and the reason why it is not to have them."""

    compiled: ov.CompiledModel | None
    reason: str = ""


def compile_direct(
    core: ov.Core,
    model: ov.Model,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    compilation: Compilation,
) -> Direct:
    """Compile the model for direct runs if it is to have them. Raises what the runtime raises.

    Models of strings have none, because a direct run copies every output of them, requested or not. Nor have models
    that may fail because of data, because a direct run would not report the failure.
    """
    reason = _why_not(model, inputs, outputs, compilation)
    if reason is not None:
        return Direct(None, reason)
    compiled = core.compile_model(model, compilation.device, compilation.direct_configuration)
    if compilation.run != "auto":
        return Direct(compiled)
    try:
        for _ in range(MAX_ATTEMPTS):
            share = ProcessorShare()
            seconds = _fastest_seconds(compiled, inputs)
            if math.isfinite(seconds) or not share.starved:
                break
    except RuntimeError:
        return Direct(None, "a run of zeros fails, so its time is unknown")
    if seconds < THREAD_HOP_SECONDS:
        return Direct(compiled)
    time_taken = f"{seconds * 1e3:.3g} ms" if math.isfinite(seconds) else f"more than {FIRST_RUN_MILLISECONDS} ms"
    return Direct(None, f"a run takes {time_taken}")


def _why_not(model: ov.Model, inputs: Sequence[Port], outputs: Sequence[Port], compilation: Compilation) -> str | None:
    """Why the model is not even measured; None if it is to be."""
    if compilation.run == "async":
        return "direct runs are turned off"
    if any(port.datatype is Datatype.BYTES for port in (*inputs, *outputs)):
        return "it has strings"
    if compilation.run == "auto":
        if compilation.device != "CPU":
            return "its device is not CPU"
        if weight_bytes(model) > MAX_WEIGHT_BYTES:
            return f"it has more than {MAX_WEIGHT_BYTES >> 20} MiB of weights"
    unsafe = why_unsafe(model)
    if unsafe is None and not shapes.follow(model, inputs):
        unsafe = "the shapes of tensors inside it depend on data"
    return unsafe


def _fastest_seconds(compiled: ov.CompiledModel, inputs: Sequence[Port]) -> float:
    """The time of the fastest of a few runs on zeros of the smallest shape: that of the processor, which a busy machine
    does not change, if the operator has not given it several threads."""
    request = compiled.create_infer_request()
    for port in inputs:
        shape = [max(1, dimension.min) for dimension in port.shape or ()]
        data = np.zeros(math.prod(shape) * ITEMSIZE[port.datatype], np.uint8)
        element_type = compiled.inputs[port.index].get_element_type()
        request.set_input_tensor(port.index, ov.Tensor(data, shape, element_type))
    request.start_async()
    if not request.wait_for(FIRST_RUN_MILLISECONDS):
        request.cancel()
        with suppress(RuntimeError):
            request.wait()
        return math.inf
    clock = time.thread_time if compiled.get_property("INFERENCE_NUM_THREADS") == 1 else time.perf_counter
    fastest, end = math.inf, time.perf_counter() + MAX_TIMING_SECONDS
    for _ in range(MAX_TIMED_RUNS):
        began = clock()
        request.infer(share_outputs=True)
        fastest = min(fastest, clock() - began)
        if time.perf_counter() > end:
            break
    return fastest


def weight_bytes(model: ov.Model) -> int:
    """Bytes of the constants of a model."""
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")
