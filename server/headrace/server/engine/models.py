"""Loads a model: reads its file, guards its graph, compiles it, and measures how it may run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import openvino as ov
from openvino import opset15 as opset

from headrace.server.core.specs import ModelSpec, Port
from headrace.server.engine.advice import compiling_advice, reading_advice
from headrace.server.engine.blobs import MAX_KEPT_WEIGHT_BYTES, Blobs, compile_or_import
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.decoding.decoder import THREADS as DECODING_THREADS
from headrace.server.engine.decoding.decoder import ImageInputs
from headrace.server.engine.direct_runs import THREAD_HOP_SECONDS
from headrace.server.engine.extensions import add_extensions
from headrace.server.engine.findings import MAX_REASON, Findings
from headrace.server.engine.graph import shapes
from headrace.server.engine.graph.implied_sizes import ImpliedSizes
from headrace.server.engine.graph.safety import why_unsafe
from headrace.server.engine.guarding.model import guard_model
from headrace.server.engine.ports import ports_of
from headrace.server.engine.preparing.model import Prepared, prepare
from headrace.server.engine.probing.batching import Batching, probe_batching
from headrace.server.engine.probing.direct import Direct, compile_direct, weight_bytes
from headrace.server.engine.pruning import may_be_pruned, prune, renumbered
from headrace.server.engine.reasons import reason_of
from headrace.server.engine.strings import prepare_strings
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, NotFound, quote

MAX_BATCH_SECONDS = 20e-3
"""How long a batch may take unless the operator sets its number of rows: the first ticket waits for the last one."""
MAX_DIRECT_BATCH_SECONDS = THREAD_HOP_SECONDS / 2
"""The same for direct runs: a batch that took longer would be handed over instead."""
MAX_COPIED_WEIGHT_BYTES = 1 << 30
"""Bytes of weights that the compiled models of one dynamic model may have together: each slot has a copy."""
MAX_CACHED_KERNELS = 64
"""Entries of the runtime's cache of what it has prepared for a shape, which has 5,000 otherwise: a slot of a text
classifier of 0.6 MB then grew by 314 MB over 160 widths, and with 64 entries by 105 MB, in the same time."""
MAX_REPLACEMENT_SECONDS = 0.5
"""How long an abandoned run goes on at most, where stopping it would spoil its compiled model."""
Progress = Callable[[str], None]
"""Told what is about to be done with the model, as in "the model is read"."""


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that can run.

    `runtime_spec` has the ports of `runtime`, `spec` those for clients: they differ in `images`, inputs of pixels for
    which clients send files, and in the indices of the outputs of a variant. `passed` maps each output that is an input
    passed through to that input, both by index.
    `implied` says which sizes of outputs equal sizes of inputs. `compile` makes another `runtime`, for models that a
    failing run spoils, so that each slot needs a `runtime` of its own; that takes about `replacement_seconds`. It is
    None where all slots share one. `findings` are those that `spec` was completed with.
    """

    spec: ModelSpec
    runtime_spec: ModelSpec
    runtime: ov.CompiledModel
    passed: Mapping[int, int]
    implied: ImpliedSizes
    findings: Findings
    images: ImageInputs | None = None
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
    findings: Findings | None = None,
    progress: Progress = lambda _: None,
    blobs: Blobs | None = None,
    outputs: Sequence[int] = (),
) -> CompiledModel:
    """Read and compile a model in a format that the runtime reads: IR, ONNX, TensorFlow and so on.

    With `outputs`, the indices of some in ascending order, it is the variant that computes only these. With `findings`,
    which an earlier call with the same files, `compilation` and `outputs` has returned, nothing is measured, and what
    is in `blobs` is not compiled again.

    Raises NotFound when the file does not exist, and FailedPrecondition when it cannot be read, compiled or served,
    with the runtime's exception as its cause. The messages are for the operator: they have paths and the runtime's
    reason.
    """
    where = quote(str(path), 1000)
    if not path.exists():
        raise NotFound(f"model {quote(name)}: file {where} does not exist")
    try:
        add_extensions(core, compilation.extensions)
    except ValueError as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be read: {error}") from error
    progress("the model is read")
    try:
        model = core.read_model(path)
    except Exception as error:
        reason = reason_of(error)
        raise FailedPrecondition(
            f"model {quote(name)} cannot be read from {where}: {reason}{reading_advice(reason)}"
        ) from error
    progress("it is prepared")
    try:
        prepared = prepare(name, model, compilation)
    except ValueError as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be prepared: {error}") from error
    progress("its graph is examined")
    # Ports of the model as read: compiling adds names, and changes which of them comes first.
    inputs = _guarded(name, model, ports_of(name, "input", model.inputs))
    ports = ports_of(name, "output", model.outputs)
    has_variables = bool(model.get_variables())
    prunes = may_be_pruned(compilation, inputs, ports, has_variables=has_variables, indices=bool(prepared.indices))
    if outputs:
        prune(model, outputs)
        ports, prunes = tuple(ports[index] for index in outputs), False
    spec = ModelSpec(
        name,
        version,
        inputs,
        ports,
        has_variables,
        1,
        sequences=has_variables and compilation.state == "sequence",
        batch_delay=compilation.batch_delay,
        max_queue=compilation.max_queue,
        max_queue_seconds=compilation.max_queue_seconds,
        labels=labels,
        output_labels=prepared.labels,
        indices=prepared.indices,
        prunes=prunes,
        pruned_to=tuple(outputs),
    )
    progress("it is compiled")
    try:
        if any(port.datatype is Datatype.BYTES for port in (*inputs, *ports)):
            prepare_strings()
        return _compile(core, model, spec, prepared, compilation, findings, progress, blobs)
    except Exception as error:
        reason = reason_of(error)
        properties = ", ".join(f"{key}={value}" for key, value in compilation.configuration.items())
        raise FailedPrecondition(
            f"model {quote(name)} from {where} cannot be compiled for {compilation.device} with {properties}: "
            f"{reason}{compiling_advice(reason, core.available_devices)}"
        ) from error


def _guarded(name: str, model: ov.Model, inputs: Sequence[Port]) -> tuple[Port, ...]:
    """Guard the model, in place. Returns the inputs with the sizes that are admitted."""
    try:
        return guard_model(model, inputs)
    except FailedPrecondition as error:
        raise FailedPrecondition(f"model {quote(name)} cannot be served: {error.message}") from error


def _compile(
    core: ov.Core,
    model: ov.Model,
    spec: ModelSpec,
    prepared: Prepared,
    compilation: Compilation,
    findings: Findings | None,
    progress: Progress,
    blobs: Blobs | None,
) -> CompiledModel:
    """Compile a model, and measure it without findings, completing what `spec` says. Raises what the runtime raises."""
    outputs = spec.outputs
    spec = replace(spec, outputs=renumbered(outputs))
    passed = _separate_outputs(model)
    dynamic = compilation.on_cpu and shapes.are_dynamic(model)
    measured: ov.CompiledModel | None = None
    if findings is None:
        measured, findings = _measure(core, model, spec, prepared, bool(passed), dynamic, compilation, progress)
    weights = weight_bytes(model)
    slots, configuration = _slots(findings, dynamic, weights, compilation)
    if prepared.images and not dynamic and not compilation.slots:
        slots += DECODING_THREADS  # a slot is taken while its images are decoded
    streams, threads = _streams(findings, dynamic, slots, compilation)
    spec = replace(
        spec,
        slots=slots,
        streams=streams,
        threads=threads,
        weight=compilation.weight,
        priority=compilation.priority,
        weights_bytes=weights,
        direct=findings.direct,
        batch=findings.batch,
        direct_reason=findings.direct_reason,
        batch_reason=findings.batch_reason,
    )
    implied = ImpliedSizes(model, spec.outputs)
    kept = blobs if weights <= MAX_KEPT_WEIGHT_BYTES else None

    def compile() -> ov.CompiledModel:
        return compile_or_import(core, model, compilation.device, configuration, kept)

    images = ImageInputs(spec, prepared.images) if prepared.images else None
    shown = replace(spec, inputs=spec.inputs if images is None else images.shown, outputs=outputs)
    if not dynamic:
        return CompiledModel(shown, spec, measured or compile(), passed, implied, findings, images)
    progress("it is compiled for a slot")
    began = perf_counter()
    runtime = compile()  # a new one, because measuring may have spoiled the other
    if measured is not None:
        seconds = min(perf_counter() - began, MAX_REPLACEMENT_SECONDS)
        findings = replace(findings, replacement_seconds=seconds)
    accepts = partial(shapes.are_accepted, model) if findings.follows else None
    seconds = findings.replacement_seconds
    return CompiledModel(shown, spec, runtime, passed, implied, findings, images, compile, seconds, accepts)


def _measure(
    core: ov.Core,
    model: ov.Model,
    spec: ModelSpec,
    prepared: Prepared,
    passes: bool,
    dynamic: bool,
    compilation: Compilation,
    progress: Progress,
) -> tuple[ov.CompiledModel, Findings]:
    """Find out how a model may run. Returns the compiled model that was measured, too; it may be spoiled if dynamic.

    `passes`: an output is an input passed through. Raises what the runtime raises.
    """
    if prepared.images:
        direct = Direct(None, "its images are decoded on other threads")
    else:
        direct = compile_direct(core, model, spec.inputs, spec.outputs, compilation)
    compiled = direct.compiled
    if compiled is None:
        compiled = core.compile_model(model, compilation.device, compilation.configuration)
    progress("it runs in batches")
    batching = _batching(model, spec, prepared, passes, compiled, compilation, direct.compiled is not None)
    findings = Findings(
        direct=direct.compiled is not None,
        direct_reason=direct.reason[:MAX_REASON],
        batch=batching.rows,
        batch_reason=batching.why[:MAX_REASON],
        streams=compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"),
        threads=compiled.get_property("INFERENCE_NUM_THREADS") if compilation.device == "CPU" else 0,
        follows=dynamic and shapes.follow(model, spec.inputs),
        replacement_seconds=0.0,
    )
    return compiled, findings


def _slots(findings: Findings, dynamic: bool, weights: int, compilation: Compilation) -> tuple[int, dict[str, str]]:
    """How many slots to make, and how to compile what they run.

    Slots of a dynamic model have a compiled model each. Together those use as much of the processor as a common one
    would, with one slot more than there would be streams: while one hands over, the others use its share of the
    processor. For three models in a row, with two streams on two cores, that made 0.8 to 1.0 times as many inferences
    as two requests for each stream of a common compiled model; without the additional slot it made 0.8 times as many,
    and pinned to cores 0.4 to 0.6.
    """
    streams = findings.streams
    configuration = compilation.direct_configuration if findings.direct else compilation.configuration
    if not dynamic:
        return compilation.slots or 2 * streams, configuration
    slots = compilation.slots or (2 * streams if findings.direct else streams + 1)
    slots = min(slots, max(1, MAX_COPIED_WEIGHT_BYTES // max(1, weights)))
    if compilation.device != "CPU":
        return slots, configuration
    if not findings.direct:
        configuration = compilation.one_stream(_streams(findings, dynamic, slots, compilation)[1])
    return slots, {"CPU_RUNTIME_CACHE_CAPACITY": str(MAX_CACHED_KERNELS), **configuration}


def _streams(findings: Findings, dynamic: bool, slots: int, compilation: Compilation) -> tuple[int, int]:
    """How many runs compute at once, and the threads of each of them; 0 where the CPU plugin does not execute them."""
    streams = min(findings.streams, slots)
    threads = max(1, findings.threads // (streams if dynamic else findings.streams))
    return slots if dynamic else streams, threads if compilation.device == "CPU" else 0


def _batching(
    model: ov.Model,
    spec: ModelSpec,
    prepared: Prepared,
    passes: bool,
    compiled: ov.CompiledModel,
    compilation: Compilation,
    in_place: bool,
) -> Batching:
    """The maximum number of rows of a run that tickets share. One ticket's data must not be able to fail such a run,
    which would fail for every ticket in the batch."""
    if spec.has_variables or passes:
        return Batching(1, "it has variables" if spec.has_variables else "an output is an input passed through")
    unsafe = why_unsafe(model)
    if unsafe is not None:
        return Batching(1, unsafe)
    if compilation.batch == 1:
        return Batching(1, "batches are turned off")
    return probe_batching(
        compiled,
        spec.inputs,
        spec.outputs,
        numbers=prepared.numbers,
        requested=compilation.batch,
        in_place=in_place,
        max_seconds=MAX_DIRECT_BATCH_SECONDS if in_place else MAX_BATCH_SECONDS,
    )


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
