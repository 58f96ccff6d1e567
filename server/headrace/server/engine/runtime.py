"""The engine on OpenVINO Runtime."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import openvino as ov

from headrace.server.core.engine_api import Ended, Run, Tensor
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.blobs import Blobs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.decoding.decoder import MEMORY_BYTES, Decoded, Decoder
from headrace.server.engine.findings import Findings
from headrace.server.engine.models import CompiledModel, compile_model
from headrace.server.engine.reasons import reason_of
from headrace.server.engine.restoring import Restorer
from headrace.server.engine.slots import Outcome, Slot
from headrace.server.engine.tensors import is_out_of_memory
from headrace.server.engine.warm_up import warm_up_shapes
from headrace.wire.errors import FailedPrecondition, ResourceExhausted, Unavailable, quote
from headrace.wire.memory import used_bytes

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _LoadedModel:
    """A model and its slots. `running` counts the asynchronous runs whose end has not been noticed.

    `is_used`: a run of it has begun.
    """

    model: CompiledModel
    slots: list[Slot]
    running: int = 0
    is_used: bool = False


class OpenVinoEngine:
    """Models and their slots: an `engine_api.Engine`.

    A run ends when it leaves `_running`, so it ends only once, whichever method notices first. Completions come by
    callback alone: the callback notes the run and wakes the caller, whose thread does the rest in `collect`. The
    runtime does not call back when a run has failed or was cancelled; `poll` finds those. A callback may still be on
    its way when a run is cancelled: then the run has completed, `collect` ends it without reading, and `poll` finds no
    failure.

    Where clients send images, a run holds its slot while a `Decoder` makes pixels of them, and `collect` then gives it
    to the runtime.

    A slot that a run has spoiled is restored by `Restorer`, and not used until then.
    """

    def __init__(self, decoding_bytes: int = MEMORY_BYTES) -> None:
        """`decoding_bytes`: what images that are decoded may take together, and their pixels."""
        self._core = ov.Core()
        # By identity, which is unique while the spec exists. Comparing specs is slow, and a version may be loaded again
        # while tickets of its earlier load exist.
        self._models: dict[int, _LoadedModel] = {}
        self._running: dict[Run, tuple[Slot, _LoadedModel]] = {}
        self._completed: deque[Run] = deque()
        self._decoder = Decoder(self._on_decoded, decoding_bytes)
        self._decoded: deque[tuple[Run, Decoded]] = deque()
        self._restorer = Restorer(self._on_restored)
        self._restored: deque[tuple[Slot, Slot | None]] = deque()
        self._wake_pending = False
        self._wake: Callable[[], None] = _ignore

    @property
    def runtime_version(self) -> str:
        """The version of the runtime, which may change what a trial finds."""
        return str(ov.get_version())

    def load(
        self,
        name: str,
        version: str,
        path: Path,
        compilation: Compilation | None = None,
        labels: Sequence[str] = (),
        findings: Findings | None = None,
        blobs: Blobs | None = None,
        fingerprint: int = 0,
    ) -> ModelSpec:
        """Read and compile a model, and make its slots. Runs refer to it by the very spec that is returned.

        Without the `findings` of a trial it is measured here, in this process, which a bad model may end. With `blobs`,
        which must be those of the very files and `compilation`, what is in them is not compiled again. Clients learn
        the `fingerprint` of the files.

        Takes seconds for a large model, and may be called on another thread while runs of other models are in progress.
        Raises NotFound when the file does not exist, and FailedPrecondition when it cannot be read, compiled or served.
        """
        before = used_bytes()
        compilation = compilation or Compilation()
        model = compile_model(self._core, name, version, path, compilation, labels, findings, blobs=blobs)
        return self._add(replace(model, spec=replace(model.spec, fingerprint=fingerprint)), compilation, before)

    def load_variant(
        self,
        spec: ModelSpec,
        outputs: Sequence[int],
        path: Path,
        compilation: Compilation,
        findings: Findings,
        blobs: Blobs | None = None,
    ) -> ModelSpec:
        """Load the variant of a model that computes only these outputs, from the files that it was loaded from.

        It is a model of its own to this engine. As `load`, with the `findings` of the variant.
        """
        before = used_bytes()
        where = spec.name, spec.version, path
        model = compile_model(self._core, *where, compilation, spec.labels, findings, blobs=blobs, outputs=outputs)
        known = replace(model.spec, fingerprint=spec.fingerprint)
        return self._add(replace(model, spec=known), compilation, before)

    def _add(self, model: CompiledModel, compilation: Compilation, before: int) -> ModelSpec:
        """Make the slots of a model. `before`: the bytes that were used before it was compiled."""
        with ExitStack() as made:
            slots = self._slots(model, made)
            if compilation.warm_up:
                _warm_up(model, slots, compilation)
            made.pop_all()
        # Other threads may allocate and free meanwhile, so this is not exact while the server is busy.
        added = max(0, used_bytes() - before)
        model = replace(model, spec=replace(model.spec, memory_bytes=added))
        self._models[id(model.spec)] = _LoadedModel(model, slots)
        return model.spec

    def findings(self, spec: ModelSpec) -> Findings | None:
        """Those that a model was loaded with; None if it has been unloaded. May be called on any thread."""
        loaded = self._models.get(id(spec))
        return None if loaded is None else loaded.model.findings

    def _slots(self, model: CompiledModel, made: ExitStack) -> list[Slot]:
        """The slots of a model. `made` closes them: the garbage collector, which does not see their callbacks, would
        not free them. Raises FailedPrecondition."""
        slots: list[Slot] = []
        try:
            for number in range(model.spec.slots):
                slot = Slot(model.recompiled() if number and model.is_fragile else model, self._on_completed)
                made.callback(slot.close)
                slots.append(slot)
        except Exception as error:
            reason = f"the runtime cannot make its {model.spec.slots} slots: {reason_of(error)}"
            raise FailedPrecondition(f"model {quote(model.spec.name)} cannot be served: {reason}") from error
        return slots

    def unload(self, spec: ModelSpec) -> None:
        """Free a model that has no runs in progress."""
        slots = self._models[id(spec)].slots
        assert all(slot.run is None for slot in slots), f"{slots} of model {spec.name!r}"
        del self._models[id(spec)]
        for slot in slots:
            if not slot.spoiled:  # the restorer closes it
                slot.close()

    def release_memory(self) -> None:
        """Release what runs have left behind in slots that are free."""
        for loaded in [*self._models.values()]:  # another thread may add one
            for slot in loaded.slots:
                slot.release_memory()

    def close(self) -> None:
        """Stop all runs and free the models. The ends of the runs are not reported.

        Blocks until the runtime has ended the runs.
        """
        self._wake = _ignore
        self._decoder.close()
        for slot, _ in self._running.values():
            slot.cancel()
        self._restorer.close()
        for loaded in self._models.values():
            for slot in loaded.slots:
                if not slot.spoiled:
                    slot.close()
        for _, new in self._restored:
            if new is not None:
                new.close()
        for state in (self._models, self._running, self._completed, self._restored, self._decoded):
            state.clear()

    def on_ended(self, wake: Callable[[], None]) -> None:
        """Set the function that wakes the caller, from any thread, when there is something to collect."""
        self._wake = wake

    def start(self, run: Run, *, in_place: bool = True) -> Ended | None:
        """Start a run in a free slot, `in_place` if that is quicker. Returns its end if it was or could not start."""
        try:
            loaded = self._models[id(run.spec)]
        except KeyError as error:
            return Ended(run, error=error)
        if not loaded.is_used:
            loaded.is_used = True
            if run.spec.resets:
                logger.warning(
                    "model %s begins each inference with its variables reset: see --state", quote(run.spec.name)
                )
        slot = loaded.slots[run.slot]
        if slot.spoiled:
            # It could not be restored and was given back, so that its tickets learn about it. Try once more.
            why = f"model {quote(run.spec.name)} could not be restored after a failed inference; try again later"
            return self._failed(run, slot, loaded, Unavailable(why))
        images = loaded.model.images
        outcome: Outcome | None = None
        try:
            if images is not None:
                self._decoder.start(run, images)
                slot.hold(run)
            else:
                outcome = slot.start(run, in_place=in_place and not loaded.running)
        except Exception as error:
            return self._failed(run, slot, loaded, error)
        if outcome is not None:
            return Ended(run, *outcome)
        # It may have completed or been decoded by now, but only this thread collects.
        self._running[run] = slot, loaded
        loaded.running += 1
        return None

    def follow(self, run: Run) -> Ended | None:
        """Do a run in place, in the slot of another run that was just done in place; None when it must be started."""
        loaded = self._models[id(run.spec)]
        slot = loaded.slots[run.slot]
        try:
            outcome = slot.follow(run)
        except Exception as error:
            return self._failed(run, slot, loaded, error)
        return None if outcome is None else Ended(run, *outcome)

    def cancel(self, run: Run) -> None:
        """Ask the runtime to stop a run. It ends when the runtime has stopped it, and its result is not read."""
        running = self._running.get(run)
        if running is not None:
            slot, _ = running
            slot.cancel()
            if slot.decoding:
                self._decoder.cancel(run)

    def collect(self) -> list[Ended]:
        """The runs that have completed since the last call."""
        # Reset before looking: a run that completes after the last look must wake the caller again.
        self._wake_pending = False
        ended: list[Ended] = []
        while self._decoded:
            ended += self._begin(*self._decoded.popleft())
        while self._completed:
            run = self._completed.popleft()
            if run in self._running:
                slot, loaded = self._running.pop(run)
                loaded.running -= 1
                ended.append(self._result(run, slot, loaded))
        return ended

    def _begin(self, run: Run, decoded: Decoded) -> Sequence[Ended]:
        """Give a run to the runtime whose images have been decoded. Returns its end if there is nothing to run."""
        if run not in self._running:
            decoded.release()
            return ()
        slot, loaded = self._running[run]
        error = decoded.error
        if not slot.stopping and error is None:
            try:
                slot.begin(decoded)
            except Exception as raised:
                error = raised
            else:
                return ()
        else:
            decoded.release()
            slot.end()
        del self._running[run]
        loaded.running -= 1
        return (Ended(run) if error is None else self._failed(run, slot, loaded, error),)

    def poll(self) -> list[Ended]:
        """The runs that failed or were cancelled, for which the runtime does not call back."""
        ended: list[Ended] = []
        for run, (slot, loaded) in list(self._running.items()):
            try:
                slot.check()
            except Exception as error:
                del self._running[run]
                loaded.running -= 1
                slot.end(unread=True, raised=True, cleansable=not slot.stopping)
                ended.append(self._failed(run, slot, loaded, error))
        return ended

    def restored(self) -> list[tuple[ModelSpec, int, bool]]:
        """The slots that have been restored since the last call, and whether others have taken their places."""
        found: list[tuple[ModelSpec, int, bool]] = []
        while self._restored:
            old, new = self._restored.popleft()
            found_slot = self._find_slot(old)
            if found_slot is not None:
                loaded, index = found_slot
                loaded.slots[index] = new or old
                if new is old:
                    old.spoiled = False
                found.append((loaded.model.spec, index, new is not None and new is not old))
            elif new is not None:
                new.close()
        return found

    def _find_slot(self, slot: Slot) -> tuple[_LoadedModel, int] | None:
        """The model and the index of a slot; None when its model was unloaded."""
        for loaded in [*self._models.values()]:  # another thread may add one
            for index, each in enumerate(loaded.slots):
                if each is slot:
                    return loaded, index
        return None

    def _result(self, run: Run, slot: Slot, loaded: _LoadedModel) -> Ended:
        """Read the requested outputs of a completed run, and free its slot."""
        if slot.stopping:
            slot.end(unread=True)
            return Ended(run)
        try:
            sent, kept, times, variables = slot.read()
        except Exception as error:
            slot.end(unread=True, raised=True)
            return self._failed(run, slot, loaded, error)
        decoded = slot.decoded
        slot.end()
        if decoded is None or not decoded.failures:
            return Ended(run, sent, kept, times, variables)
        nothing: list[Sequence[Tensor]] = [()] * len(run.parts)
        every_sent, every_kept = [*nothing], [*nothing]
        for position, its_sent, its_kept in zip(decoded.positions, sent, kept, strict=True):
            every_sent[position], every_kept[position] = its_sent, its_kept
        return Ended(run, every_sent, every_kept, times, variables, failures=decoded.failures)

    def _failed(self, run: Run, slot: Slot, loaded: _LoadedModel, error: Exception) -> Ended:
        if slot.spoiled:
            self._restorer.restore(loaded.model, slot)
        if is_out_of_memory(error):
            name = quote(run.spec.name)
            error = ResourceExhausted(f"the server has too little memory left for this inference of model {name}")
        return Ended(run, error=error, restoring=slot.spoiled)

    def _on_restored(self, old: Slot, new: Slot | None) -> None:
        """Called on the thread of the restorer."""
        self._restored.append((old, new))
        self._wake_once()

    def _on_decoded(self, run: Run, decoded: Decoded) -> None:
        """Called on a thread of the decoder, or by `cancel`."""
        self._decoded.append((run, decoded))
        self._wake_once()

    def _on_completed(self, slot: Slot) -> None:
        """Called on a thread of the runtime, while the InferRequest still counts as running."""
        assert slot.run is not None
        slot.completed()
        self._completed.append(slot.run)
        self._wake_once()

    def _wake_once(self) -> None:
        if not self._wake_pending:
            self._wake_pending = True
            # An exception in a callback would make the completed run fail. Waking fails when the event loop is closed,
            # and then nothing waits for the run any more.
            with suppress(Exception):
                self._wake()

    def __repr__(self) -> str:
        stopping = sum(slot.stopping for slot, _ in self._running.values())
        running = f"{len(self._running)} running, {stopping} of them stopping"
        return f"<OpenVinoEngine {len(self._models)} models, {running}>"


def _warm_up(model: CompiledModel, slots: Sequence[Slot], compilation: Compilation) -> None:
    """Raises FailedPrecondition."""
    name = quote(model.spec.name)
    try:
        shapes = warm_up_shapes(model.runtime_spec.inputs, compilation)
        for slot in slots:
            slot.warm_up(shapes, compilation.warm_up)
    except ValueError as error:
        raise FailedPrecondition(f"model {name} cannot be warmed up: {error}") from error
    except Exception as error:
        reason = f"a run of zeros to warm it up fails: {reason_of(error)}"
        raise FailedPrecondition(f"model {name} cannot be served: {reason}") from error


def _ignore() -> None:
    """Wakes no caller, because none has been set."""
