"""Prepares a model, in place, before anything is asked of its ports."""

from __future__ import annotations

import openvino as ov

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.preparing.ports import port_numbers
from headrace.server.engine.preparing.shapes import reshape


def prepare(model: ov.Model, compilation: Compilation) -> None:
    """Do what the options of its inputs and outputs say. The model is changed in place.

    Raises ValueError with a clause that names what cannot be done, such as "it has no input 'x'".
    """
    inputs = {
        number: compilation.inputs[name] for name, number in port_numbers(model, "input", compilation.inputs).items()
    }
    reshape(model, {number: options.shape for number, options in inputs.items() if options.shape})
