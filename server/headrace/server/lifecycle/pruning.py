"""Makes variants of models, which compute only the outputs that clients ask for again and again.

A variant is tried, compiled and loaded as a model is, on a thread of its own, while the model serves. Calls are bound
to it from then on. It is dropped with its model, when memory is short, and for another one when nobody uses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from headrace.server.core.core import Core
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.server.lifecycle.threads import Worker
from headrace.server.repository.named import NamedModel
from headrace.wire.errors import FailedPrecondition, HeadraceError, Unavailable, listed, quote

MAX_VARIANTS = 2
"""Of one model."""
LOOK_SECONDS = 1.0
UNUSED_LOOKS = 60
"""Looks in which a variant has run nothing, after which it makes place for another."""

PAUSE_SECONDS = 600.0
"""How long no variant is made after memory was short."""

logger = logging.getLogger(__name__)

LoadVariant = Callable[[NamedModel, ModelSpec, Sequence[int]], ModelSpec]
"""Tries, compiles and loads the variant of a model that computes only these outputs. Blocks for seconds; raises
HeadraceError with a message for the operator."""


class Pruning:
    """One variant is made at a time. `source` finds the files that a model was loaded from, and `has_room` says whether
    there is memory for something as large as a model. `change_core` is `Dispatcher.tell`."""

    def __init__(
        self,
        load: LoadVariant,
        core: Core,
        change_core: Callable[[Callable[[Core, float], None]], None],
        now: Callable[[], float],
        source: Callable[[ModelSpec], NamedModel | None],
        has_room: Callable[[int], bool],
    ) -> None:
        self._load = load
        self._core = core
        self._change_core = change_core
        self._now = now
        self._source = source
        self._has_room = has_room
        self._worker = Worker("pruning")
        self.loading = False
        """Whether a variant is being loaded, which cannot be stopped."""
        self._paused_until = 0.0
        self._unused: dict[ModelQueue[Ticket], tuple[int, int]] = {}
        """Of each variant: how many runs it had when it was looked at, and in how many looks that was the same."""

    async def run(self) -> None:
        """Look for what is worth a variant, until the task is cancelled or an error shows that this cannot go on."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if not self._core.draining:
                    await self.look()
        except Exception:
            logger.exception("no further variants of models are made")

    async def look(self) -> None:
        """Make the first variant that is worth it, if there is one."""
        self._note_unused()
        self._tell_doubts()
        # Where models take turns by weight, a variant would have a share of its own.
        if self._core.limits.processors:
            return
        now = self._now()
        if now < self._paused_until:
            return
        for model in self._core.models:
            outputs = None if model.demand is None else model.demand.wanted(now)
            source = None if outputs is None else self._source(model.spec)
            if outputs is not None and source is not None and self._has_place(model):
                await self._make(model, source, outputs)
                return

    def drop(self) -> int:
        """Drop all variants, because memory is short, and make none for a while. Returns how many there were."""
        self._paused_until = self._now() + PAUSE_SECONDS
        variants = [(model, variant) for model in self._core.models for variant in model.variants]
        for model, variant in variants:
            self._remove(model, variant, "memory is short")
        return len(variants)

    def _note_unused(self) -> None:
        before = self._unused
        self._unused = {}
        for model in self._core.models:
            for variant in model.variants:
                runs, looks = before.get(variant, (-1, 0))
                self._unused[variant] = variant.executions, looks + 1 if runs == variant.executions else 0

    def _tell_doubts(self) -> None:
        doubted, self._core.models.doubted = self._core.models.doubted, []
        for spec in doubted:
            logger.warning("dropped %s: an inference has failed in it, and not in the model", spec)

    def _has_place(self, model: ModelQueue[Ticket]) -> bool:
        """Whether a model may get one more variant, maybe instead of one that nobody uses."""
        if not self._has_room(model.spec.memory_bytes):
            return False
        if len(model.variants) < MAX_VARIANTS:
            return True
        longest = max(model.variants, key=lambda each: self._unused[each][1])
        if self._unused[longest][1] < UNUSED_LOOKS:
            return False
        self._remove(model, longest, "nobody uses it")
        return True

    def _remove(self, model: ModelQueue[Ticket], variant: ModelQueue[Ticket], why: str) -> None:
        self._change_core(lambda core, _: core.models.remove_variant(model, variant))
        logger.info("dropped %s: %s", variant.spec, why)

    async def _make(self, model: ModelQueue[Ticket], source: NamedModel, outputs: Sequence[int]) -> None:
        spec, demand = model.spec, model.demand
        assert demand is not None
        self.loading = True
        try:
            variant = await self._worker.run(partial(self._load, source, spec, outputs))
        except Exception as error:
            self.loading = False
            # What has to do with this moment may be tried again.
            demand.answered(outputs, refused=not isinstance(error, Unavailable))
            self._log(spec, outputs, error)
            return
        self.loading = False
        demand.answered(outputs, refused=False)

        def add(core: Core, _now: float) -> None:
            if core.models.serving(spec) is model:
                core.models.add_variant(model, variant)
            else:  # it was unloaded or replaced meanwhile
                core.models.unneeded.append(variant)

        self._change_core(add)

    def _log(self, spec: ModelSpec, outputs: Sequence[int], error: Exception) -> None:
        names = listed([spec.outputs[index].name for index in outputs], len(outputs))
        model = f"model {quote(spec.name)} version {spec.version}"
        text = error.message if isinstance(error, HeadraceError) else str(error)
        logger.log(
            logging.INFO if isinstance(error, (FailedPrecondition, Unavailable)) else logging.WARNING,
            "%s is not pruned to %s: %s",
            model,
            names,
            text,
            exc_info=None if isinstance(error, HeadraceError) else error,
        )

    def __repr__(self) -> str:
        variants = sum(len(model.variants) for model in self._core.models)
        return f"<Pruning {variants} variants{', one loading' if self.loading else ''}>"
