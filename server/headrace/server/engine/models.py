"""Loads a model: reads its file, guards its graph, compiles it, and probes how it may run."""

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
from headrace.server.engine.probing.batching import probe_batching
from headrace.server.engine.probing.direct import compile_direct, weight_bytes
from headrace.wire.errors import FailedPrecondition, NotFound, quote

MAX_BATCH_SECONDS = 20e-3
"""How long a batch may take unless the operator sets its number of rows: the first ticket waits for the last one."""
MAX_DIRECT_BATCH_SECONDS = THREAD_HOP_SECONDS / 2
"""The same for direct runs: a batch that took longer would be handed over instead."""
MAX_COPIED_WEIGHT_BYTES = 1 << 30
"""Bytes of weights that the compiled models of one dynamic model may have together: each slot has a copy."""
MAX_REPLACEMENT_SECONDS = 0.5
"""How long an abandoned run goes on at most, where stopping it would spoil its compiled model."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that can run.

    `passed` maps each output that is an input passed through to that input, both by index. `implied` says which sizes
    of outputs equal sizes of inputs. `compile` makes another `runtime`, for models that a failing run spoils, so that
    each slot needs a `runtime` of its own; that takes about `replacement_seconds`. It is None where all slots share
    one.
    """

    spec: ModelSpec
    runtime: ov.CompiledModel
    passed: Mapping[int, int]
    implied: ImpliedSizes
    compile: Callable[[], ov.CompiledModel] | None = None
    replacement_seconds: float = 0.0
    accepts: Callable[[Mapping[int, Sequence[int]]], bool] | None = None
    """Whether shape inference accepts inputs of these shapes, by index; then a run of zeros in them may cleanse
    `runtime`. None where shapes inside depend on data."""

    @property
    def is_fragile(self) -> bool:
        """Whether a failing run spoils the compiled model."""
        return self.compile is not None

    def recompiled(self) -> CompiledModel:
        """The same model with an unused `runtime`. Raises what the runtime raises."""
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

    Raises NotFound when the file does not exist, and FailedPrecondition when it cannot be read, compiled or served,
    with the runtime's exception as its cause.
    """
    where = quote(str(path), 1000)
    if not path.exists():
        raise NotFound(f"model {quote(name)}: file {where} does not exist")
    try:
        model = core.read_model(path)
    except Exception as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be read from {where}") from error
    # Ports of the model as read: compiling adds names, and changes which of them comes first.
    inputs = _guarded(name, model, ports_of(name, "input", model.inputs))
    outputs = ports_of(name, "output", model.outputs)
    spec = ModelSpec(name, version, inputs, outputs, bool(model.get_variables()), 1, labels=labels)
    try:
        return _compile(core, model, spec, compilation)
    except Exception as error:
        properties = ", ".join(f"{key}={value}" for key, value in compilation.configuration.items())
        raise FailedPrecondition(
            f"model {quote(name)} from {where} cannot be compiled for {compilation.device} with {properties}"
        ) from error


def _guarded(name: str, model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """Guard the model, in place. Returns the inputs with the sizes that are admitted."""
    try:
        return guard_model(model, inputs)
    except FailedPrecondition as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be served: {error.message}") from error


def _compile(core: ov.Core, model: ov.Model, spec: ModelSpec, compilation: Compilation) -> CompiledModel:
    """Compile a model and probe it, completing what `spec` says. Raises what the runtime raises."""
    passed = _separate_outputs(model)
    probed = compile_direct(core, model, spec.inputs, spec.outputs, compilation)
    in_place = probed is not None
    if probed is None:
        probed = core.compile_model(model, compilation.device, compilation.configuration)
    batch = 1
    if not spec.has_variables and not passed and _may_batch(spec.name, model):
        batch = _max_batch(spec, probed, compilation, in_place)
    spec = replace(spec, direct=in_place, batch=batch)
    implied = ImpliedSizes(model, spec.outputs)
    if not (compilation.on_cpu and shapes.are_dynamic(model)):
        slots = compilation.slots or 2 * probed.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return CompiledModel(replace(spec, slots=slots), probed, passed, implied)
    slots, configuration = _separate_slots(probed, weight_bytes(model), compilation, in_place)

    def compile() -> ov.CompiledModel:
        return core.compile_model(model, compilation.device, configuration)

    began = perf_counter()
    runtime = compile()  # a new one, because probing may have spoiled the other
    replacement_seconds = min(perf_counter() - began, MAX_REPLACEMENT_SECONDS)
    accepts = partial(shapes.are_accepted, model) if shapes.follow(model, spec.inputs) else None
    return CompiledModel(replace(spec, slots=slots), runtime, passed, implied, compile, replacement_seconds, accepts)


def _separate_slots(
    probed: ov.CompiledModel, weights: int, compilation: Compilation, in_place: bool
) -> tuple[int, dict[str, str]]:
    """How many slots to make with a compiled model each, and how to compile those, so that together they use as much of
    the processor as a common one would.

    There is one slot more than there would be streams: while one hands over, the others use its share of the processor.
    For three models in a row, with two streams on two cores, that made 0.8 to 1.0 times as many inferences as two
    requests for each stream of a common compiled model; without the additional slot it made 0.8 times as many, and
    pinned to cores 0.4 to 0.6.
    """
    streams = probed.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    slots = compilation.slots or (2 * streams if in_place else streams + 1)
    slots = min(slots, max(1, MAX_COPIED_WEIGHT_BYTES // max(1, weights)))
    if in_place:
        return slots, compilation.direct_configuration
    if compilation.device != "CPU":
        return slots, compilation.configuration
    threads = probed.get_property("INFERENCE_NUM_THREADS")
    return slots, compilation.one_stream(max(1, threads // min(streams, slots)))


def _may_batch(name: str, model: ov.Model) -> bool:
    """Whether one ticket's data cannot fail a run, which would fail for every ticket in the batch."""
    unsafe = why_unsafe(model)
    if unsafe is not None:
        logger.info("model %s does not run in batches: %s", quote(name), unsafe)
    return unsafe is None


def _max_batch(spec: ModelSpec, compiled: ov.CompiledModel, compilation: Compilation, in_place: bool) -> int:
    """The maximum number of rows of a run that tickets share."""
    if compilation.batch == 1:
        return 1
    batching = probe_batching(
        compiled,
        spec.inputs,
        spec.outputs,
        requested=compilation.batch,
        in_place=in_place,
        max_seconds=MAX_DIRECT_BATCH_SECONDS if in_place else MAX_BATCH_SECONDS,
    )
    if batching.rows > 1:
        logger.info("model %s runs in batches of %s", quote(spec.name), batching.why)
    else:
        logger.info("model %s does not run in batches: %s", quote(spec.name), batching.why)
    return batching.rows


def _separate_outputs(model: ov.Model) -> dict[int, int]:
    """Give each output a tensor of its own. Returns the outputs that are inputs passed through, and their inputs.

    The runtime has one tensor for a Result and its source, so setting it for one Result sets it for the others of the
    same source. Where the source is an input, setting the output replaces the input, and the run would read memory that
    holds no input: such outputs must never be set. An operation in between would keep the two apart, but the CPU plugin
    computes 64-bit elements in 32 bits, which would change what is only passed through.
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
