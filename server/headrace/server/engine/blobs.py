"""Compiled models as bytes, for those that are imported in a part of the time that compiling takes.

That is so for many small layers. Large weights are slower to import than to compile, and take memory of their own
instead of pages of the model's file (8 products by 16 MB each: 0.5 s against 0.16 s, 158 MB against 34 MB), so it is
measured when a model is compiled for the first time.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Protocol

import openvino as ov

from headrace.server.engine.reasons import reason_of

MAX_KEPT_WEIGHT_BYTES = 256 << 20
"""Models with more are compiled each time."""
MIN_SAVED_SECONDS = 0.02
MAX_SHARE = 0.75
"""A compiled model is kept if importing it takes at most this share of the time of compiling it."""
NOT_WORTH_IT = b""
"""Kept instead of one that is not imported fast enough."""

logger = logging.getLogger(__name__)


class Blobs(Protocol):
    """Where the compiled forms of one model are kept. Nothing here raises."""

    @property
    def takes_more(self) -> bool:
        """Whether `add` keeps anything."""
        ...

    def read(self, name: str) -> bytes | None: ...
    def add(self, name: str, blob: bytes) -> None: ...


def compile_or_import(
    core: ov.Core, model: ov.Model, device: str, configuration: Mapping[str, str], blobs: Blobs | None
) -> ov.CompiledModel:
    """Import what was compiled of this model before, or compile it and keep it. Raises what the runtime raises.

    `blobs` are of this very model, runtime and processor, so only the configuration decides.
    """
    if blobs is None:
        return core.compile_model(model, device, dict(configuration))
    name = hashlib.sha256(json.dumps([device, sorted(configuration.items())]).encode()).hexdigest()[:16]
    blob = blobs.read(name)
    if blob:
        try:
            return core.import_model(io.BytesIO(blob), device, dict(configuration))
        except RuntimeError as error:
            logger.warning("--cache-dir: a compiled model is not valid, and is compiled again: %s", reason_of(error))
    began = perf_counter()
    compiled = core.compile_model(model, device, dict(configuration))
    took = perf_counter() - began
    if blobs.takes_more and blob != NOT_WORTH_IT:
        _keep(core, compiled, took, device, configuration, name, blobs)
    return compiled


def _keep(
    core: ov.Core,
    compiled: ov.CompiledModel,
    took: float,
    device: str,
    configuration: Mapping[str, str],
    name: str,
    blobs: Blobs,
) -> None:
    """Keep a model whose compilation took so many seconds, if it can be exported and importing it is faster."""
    try:
        blob = compiled.export_model().getvalue()
        began = perf_counter()
        core.import_model(io.BytesIO(blob), device, dict(configuration))
        import_seconds = perf_counter() - began
    except (RuntimeError, MemoryError):
        logger.debug("a compiled model cannot be exported by device %s", device)
        return
    blobs.add(name, blob if is_worth_it(took, import_seconds) else NOT_WORTH_IT)


def is_worth_it(compile_seconds: float, import_seconds: float) -> bool:
    """Whether a compiled model is kept."""
    saved = compile_seconds - import_seconds
    return saved >= MIN_SAVED_SECONDS and import_seconds <= MAX_SHARE * compile_seconds
