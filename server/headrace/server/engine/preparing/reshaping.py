"""Gives ports of a model other shapes, with the same elements in the same order."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import openvino as ov
from openvino import opset15 as opset

from headrace.server.engine.preparing.shapes import partial_shape
from headrace.server.engine.reasons import reason_of
from headrace.wire.errors import quote


def reshape_ports(model: ov.Model, inputs: Mapping[int, str], outputs: Mapping[int, str]) -> None:
    """Let clients send inputs and get outputs, by number, in these shapes. Raises ValueError."""
    try:
        for number, text in inputs.items():
            _reshape_input(model, number, text)
        for number, text in outputs.items():
            _reshape_output(model, number, text)
        if inputs or outputs:
            model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise ValueError(f"its ports cannot have other shapes: {reason_of(error)}") from error


def _reshape_input(model: ov.Model, number: int, text: str) -> None:
    old = model.get_parameters()[number]
    own = old.get_partial_shape()
    sent = partial_shape(text, own)
    pattern = _pattern(sent, own)
    new = opset.parameter(sent, old.get_element_type(), old.get_friendly_name())
    reshaped = opset.reshape(new, pattern, special_zero=True)
    targets = old.output(0).get_target_inputs()
    names = old.output(0).get_names()
    for target in targets:
        target.replace_source_output(reshaped.output(0))
    old.output(0).set_names(set())
    new.output(0).set_names(names)
    model.replace_parameter(number, new)


def _reshape_output(model: ov.Model, number: int, text: str) -> None:
    result = model.get_results()[number]
    source = result.input_value(0)
    wanted = partial_shape(text, source.get_partial_shape())
    reshaped = opset.reshape(source, _pattern(source.get_partial_shape(), wanted), special_zero=True)
    names = result.output(0).get_names()
    result.input(0).replace_source_output(reshaped.output(0))
    source.set_names(source.get_names() - names)
    reshaped.output(0).set_names(names)


def _pattern(source: ov.PartialShape, target: ov.PartialShape) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """What a Reshape takes: the sizes of the target, 0 for a first size that stays as it is, and one -1 at most."""
    text = f"{quote(str(source))} cannot become {quote(str(target))}"
    if target.rank.is_dynamic or source.rank.is_dynamic:
        raise ValueError(f"{text}: it may have any rank")
    sizes = [-1 if each.is_dynamic else each.get_length() for each in target]
    if sizes and len(source) and sizes[0] == -1 and source[0] == target[0]:
        sizes[0] = 0
    if sizes.count(-1) > 1:
        raise ValueError(f"{text}: several sizes are dynamic")
    if source.is_static and target.is_static and math.prod(source.to_shape()) != math.prod(target.to_shape()):
        raise ValueError(f"{text}: it has another number of elements")
    return np.array(sizes, np.int64)
