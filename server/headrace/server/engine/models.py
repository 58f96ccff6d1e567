"""A model's file, read and compiled, and what clients see of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino as ov
from openvino import opset15 as opset

from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.engine import direct
from headrace.server.engine.batching import most_rows
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.direct import HOP
from headrace.server.engine.empty import without_empty
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, NotFound, quote

LONGEST = 20e-3
"""Seconds that a batch may take, unless the operator says how many rows it has: the first ticket waits for the last."""
LONGEST_IN_PLACE = HOP / 2
"""The same for direct runs: a batch is none if it takes so long that it is handed over."""
logger = logging.getLogger(__name__)

_DATATYPES = {
    "boolean": Datatype.BOOL,
    "u8": Datatype.UINT8,
    "u16": Datatype.UINT16,
    "u32": Datatype.UINT32,
    "u64": Datatype.UINT64,
    "i8": Datatype.INT8,
    "i16": Datatype.INT16,
    "i32": Datatype.INT32,
    "i64": Datatype.INT64,
    "f16": Datatype.FP16,
    "f32": Datatype.FP32,
    "f64": Datatype.FP64,
    "bf16": Datatype.BF16,
    "string": Datatype.BYTES,
}
"""By the runtime's name. Others have no bytes on the wire, or less than one for an element."""


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model that can run.

    `passed` are the outputs that are inputs passed through, by index, and the input of each.
    """

    spec: ModelSpec
    runtime: ov.CompiledModel
    passed: Mapping[int, int]


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
    inputs = without_empty(model, _ports(name, "input", model.inputs))
    outputs = _ports(name, "output", model.outputs)
    has_variables = bool(model.get_variables())
    try:
        passed = _separate_outputs(model)
        compiled = direct.compile_direct(core, model, inputs, outputs, compilation)
        in_place = compiled is not None
        if compiled is None:
            compiled = core.compile_model(model, compilation.device, compilation.configuration)
        slots = compilation.slots or 2 * compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    except Exception as error:
        raise FailedPrecondition(
            f"model {quote(name)} from {where} cannot be compiled for {compilation.device}"
            f" with {compilation.configuration}"
        ) from error
    batch = 1 if has_variables or passed else _batch(name, compiled, inputs, outputs, compilation, in_place)
    spec = ModelSpec(name, version, inputs, outputs, has_variables, slots, in_place, batch, labels)
    return CompiledModel(spec, compiled, passed)


def _batch(
    name: str,
    compiled: ov.CompiledModel,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    compilation: Compilation,
    in_place: bool,
) -> int:
    """How many rows a run may have that tickets share."""
    if compilation.batch == 1:
        return 1
    longest = LONGEST_IN_PLACE if in_place else LONGEST
    batching = most_rows(compiled, inputs, outputs, wanted=compilation.batch, in_place=in_place, longest=longest)
    logger.info("model %s: batches of %d rows at most: %s", quote(name), batching.rows, batching.why)
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


def _ports(model: str, kind: str, ports: Sequence[ov.Output]) -> tuple[Port, ...]:
    names = _names(kind, ports)
    return tuple(
        Port(
            index,
            names[index],
            _datatype(model, kind, names[index][0], port),
            _shape(port.get_partial_shape()),
        )
        for index, port in enumerate(ports)
    )


def _names(kind: str, ports: Sequence[ov.Output]) -> list[tuple[str, ...]]:
    """Every name of each port, sorted. A port without is `kind_N`, and `kind_N_` if that is taken.

    A name that ports share is the first one's: what shares a name is the same data.
    """
    given = {name for port in ports for name in port.get_names()}
    taken: set[str] = set()
    result: list[tuple[str, ...]] = []
    for index, port in enumerate(ports):
        names = sorted(port.get_names() - taken)
        if not names:
            generated = f"{kind}_{index}"
            while generated in given:
                generated += "_"
            names = [generated]
            given.add(generated)
        taken.update(names)
        result.append(tuple(names))
    return result


def _datatype(model: str, kind: str, name: str, port: ov.Output) -> Datatype:
    type_name = port.get_element_type().get_type_name()
    datatype = _DATATYPES.get(type_name)
    if datatype is None:
        reason = f"the elements of its {kind} {quote(name)} are of type {type_name}"
        raise FailedPrecondition(f"model {quote(model)} cannot be served: {reason}")
    return datatype


def _shape(shape: ov.PartialShape) -> tuple[Dimension, ...] | None:
    if shape.rank.is_dynamic:
        return None
    return tuple(Dimension(dimension.min_length, dimension.max_length) for dimension in shape)
