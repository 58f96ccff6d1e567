"""Prepares a model, in place, before anything is asked of its ports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import openvino as ov

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.decoding.images import ImageOptions
from headrace.server.engine.preparing.expected import check_expected
from headrace.server.engine.preparing.inputs import prepare_inputs
from headrace.server.engine.preparing.labels import output_labels
from headrace.server.engine.preparing.outputs import prepare_outputs
from headrace.server.engine.preparing.ports import options_by_number, port_names
from headrace.server.engine.preparing.reshaping import reshape_ports
from headrace.server.engine.preparing.shapes import reshape
from headrace.server.engine.preparing.state import variables_to_ports


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the ports of a prepared model do not say. They are numbered.

    `images` are the inputs of pixels for which clients send files. `numbers` are the inputs of integers that become
    floats, so that they are no indices. `indices` maps each output of the largest elements to that of their indices,
    `labels` outputs to the names of their classes.
    """

    images: Mapping[int, ImageOptions]
    numbers: Collection[int]
    indices: Mapping[int, int]
    labels: Mapping[int, tuple[str, ...]]


def prepare(name: str, model: ov.Model, compilation: Compilation) -> Prepared:
    """Make variables ports and do what the options of inputs and outputs say. The model is changed in place.

    Raises ValueError with a clause that names what cannot be done, such as "it has no input 'x'".
    """
    if compilation.state == "ports":
        variables_to_ports(model)  # first, so that options can name them
    check_expected(name, model, compilation.expected)
    inputs = options_by_number(model, "input", compilation.inputs)
    outputs = options_by_number(model, "output", compilation.outputs)
    names = port_names(model, "input"), port_names(model, "output")
    reshape(model, {number: options.shape for number, options in inputs.items() if options.shape})
    floats = {number for number in inputs if model.inputs[number].get_element_type().is_real()}
    images = prepare_inputs(model, inputs, names[0])
    numbers = {number for number in floats if not model.inputs[number].get_element_type().is_real()}
    indices = prepare_outputs(model, outputs, names[1])
    reshape_ports(
        model,
        {number: options.reshape for number, options in inputs.items() if options.reshape},
        {number: options.reshape for number, options in outputs.items() if options.reshape},
    )
    return Prepared(images, numbers, indices, output_labels(outputs, names[1]))
