"""A model's file, read and compiled, and what the server makes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import openvino as ov
from openvino import opset15 as opset

from headrace.server.core.specs import ModelSpec, Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.direct_runs import THREAD_HOP_SECONDS
from headrace.server.engine.graph import shapes
from headrace.server.engine.graph.implied_sizes import ImpliedSizes
from headrace.server.engine.graph.safety import why_unsafe
from headrace.server.engine.guarding.model import guard_model
from headrace.server.engine.ports import ports_of
from headrace.server.engine.probing import direct
from headrace.server.engine.probing.batching import probe_batching
from headrace.wire.errors import FailedPrecondition, NotFound, quote

LONGEST = 20e-3
"""Seconds that a batch may take, unless the operator says how many rows it has: the first ticket waits for the last."""
LONGEST_IN_PLACE = THREAD_HOP_SECONDS / 2
"""The same for direct runs: a batch is none if it takes so long that it is handed over."""
COPIES = 1 << 30
"""Bytes of weights that the compiled models of one dynamic model may have together: each slot has a copy."""
MOST_PATIENCE = 0.5
"""Seconds for which a run that nobody wants goes on at most, where stopping it would spoil its compiled model."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that can run.

    `passed` are the outputs that are inputs passed through, by index, and the input of each. `implied` says which sizes
    of outputs are sizes of inputs. `compile` makes another `runtime`, where a run that raises spoils it so that each
    slot needs its own; that takes about `patience` seconds. It is None where one is for all.
    """

    spec: ModelSpec
    runtime: ov.CompiledModel
    passed: Mapping[int, int]
    implied: ImpliedSizes
    compile: Callable[[], ov.CompiledModel] | None = None
    patience: float = 0.0
    takes: Callable[[Mapping[int, Sequence[int]]], bool] | None = None
    """Whether shape inference takes inputs of these shapes, by their index: then a run of zeros in them may cleanse
    `runtime` instead. None where shapes inside depend on data."""

    @property
    def fragile(self) -> bool:
        return self.compile is not None

    def another(self) -> CompiledModel:
        """The same with a `runtime` that nobody has used. Raises what the runtime raises."""
        assert self.compile is not None, f"model {self.spec.name!r} has one compiled model for all of its slots"
        return replace(self, runtime=self.compile())


def compile_model(
    core: ov.Core,
    name: str,
    version: str,
    path: Path,
    compilation: Compilation,
    labels: Sequence[str] = (),
) -> CompiledModel:
    """Read and compile a model in a format that the runtime reads: IR, ONNX, TensorFlow and so on.

    Raises NotFound when there is no such file, and FailedPrecondition when it cannot be read,
    compiled or served, with the runtime's exception as its cause.
    """
    where = quote(str(path), 1000)
    if not path.exists():
        raise NotFound(f"model {quote(name)}: there is no {where}")
    try:
        model = core.read_model(path)
    except Exception as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be read from {where}") from error
    # Of the model as read: compiling adds names, and changes which of them comes first.
    inputs = _guarded(name, model, ports_of(name, "input", model.inputs))
    outputs = ports_of(name, "output", model.outputs)
    spec = ModelSpec(name, version, inputs, outputs, bool(model.get_variables()), 1, labels=labels)
    try:
        return _compile(core, model, spec, compilation)
    except Exception as error:
        raise FailedPrecondition(
            f"model {quote(name)} from {where} cannot be compiled for {compilation.device}"
            f" with {compilation.configuration}"
        ) from error


def _guarded(name: str, model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """The inputs with the sizes that are admitted, after the model was guarded, in place."""
    try:
        return guard_model(model, inputs)
    except FailedPrecondition as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be served: {error.message}") from error


def _compile(core: ov.Core, model: ov.Model, spec: ModelSpec, compilation: Compilation) -> CompiledModel:
    """Compile a model and try what it is good for. `spec` is what is known before. Raises what the runtime raises."""
    passed = _separate_outputs(model)
    tried = direct.compile_direct(core, model, spec.inputs, spec.outputs, compilation)
    in_place = tried is not None
    if tried is None:
        tried = core.compile_model(model, compilation.device, compilation.configuration)
    batch = 1
    if not spec.has_variables and not passed and _may_batch(spec.name, model):
        batch = _batch(spec, tried, compilation, in_place)
    spec = replace(spec, direct=in_place, batch=batch)
    implied = ImpliedSizes(model, spec.outputs)
    if not (compilation.on_cpu and shapes.are_dynamic(model)):
        slots = compilation.slots or 2 * tried.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return CompiledModel(replace(spec, slots=slots), tried, passed, implied)
    slots, configuration = _separate_slots(tried, direct.weight_bytes(model), compilation, in_place)

    def compile() -> ov.CompiledModel:
        return core.compile_model(model, compilation.device, configuration)

    began = perf_counter()
    runtime = compile()  # what was tried may have been spoiled by that
    patience = min(perf_counter() - began, MOST_PATIENCE)
    takes = partial(shapes.are_accepted, model) if shapes.follow(model, spec.inputs) else None
    return CompiledModel(replace(spec, slots=slots), runtime, passed, implied, compile, patience, takes)


def _separate_slots(
    tried: ov.CompiledModel, weights: int, compilation: Compilation, in_place: bool
) -> tuple[int, dict[str, str]]:
    """How many slots to make with a compiled model each, and how to compile these, so that together they use what one
    for all would.

    One more than there would be streams: while one hands over, the others use its share of the processor. In a row of
    three models, with two streams on two cores, that made 0.8 to 1.0 times as many inferences as two requests for each
    stream of a common one; without it 0.8, and pinned to cores 0.4 to 0.6.
    """
    streams = tried.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    slots = compilation.slots or (2 * streams if in_place else streams + 1)
    slots = min(slots, max(1, COPIES // max(1, weights)))
    if in_place:
        return slots, compilation.direct_configuration
    if compilation.device != "CPU":
        return slots, compilation.configuration
    threads = tried.get_property("INFERENCE_NUM_THREADS")
    return slots, compilation.one_stream(max(1, threads // min(streams, slots)))


def _may_batch(name: str, model: ov.Model) -> bool:
    """Whether one ticket's data cannot fail a run, which would fail for all."""
    unsafe = why_unsafe(model)
    if unsafe is not None:
        logger.info("model %s: no batches: %s", quote(name), unsafe)
    return unsafe is None


def _batch(spec: ModelSpec, compiled: ov.CompiledModel, compilation: Compilation, in_place: bool) -> int:
    """How many rows a run may have that tickets share."""
    if compilation.batch == 1:
        return 1
    longest = LONGEST_IN_PLACE if in_place else LONGEST
    batching = probe_batching(
        compiled, spec.inputs, spec.outputs, requested=compilation.batch, in_place=in_place, max_seconds=longest
    )
    logger.info("model %s: batches of %d rows at most: %s", quote(spec.name), batching.rows, batching.why)
    return batching.rows


def _separate_outputs(model: ov.Model) -> dict[int, int]:
    """Give each output a tensor of its own, but return those that are inputs passed through.

    The runtime has one tensor for a Result and its source, so setting it for one Result sets it for
    others of the same source. Where the source is an input, setting the output replaces the input,
    and the run would read what nobody wrote: such outputs must never be set. An operation between
    would keep them apart, but the CPU plugin computes 64-bit elements in 32 bits, and what is only
    passed through would change.
    """
    inputs = {node.output(0): index for index, node in enumerate(model.get_parameters())}
    passed: dict[int, int] = {}
    taken: set[ov.Output] = set()
    for index, result in enumerate(model.get_results()):
        source = result.input_value(0)
        if source in inputs:
            passed[index] = inputs[source]
        elif source in taken:
            same = opset.convert(source, source.get_element_type().to_string())
            result.input(0).replace_source_output(same.output(0))
        taken.add(source)
    model.validate_nodes_and_infer_types()
    return passed
