"""What describes a call: the key that tells calls apart, and the message that the server gets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.inputs import Inputs, Reference, Zeros
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_of

Arrays = list[npt.NDArray[Any]]
Names = tuple[str, str | None, tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]
"""Model, version, outputs, keep, keep_inputs."""
Key = tuple[Names, tuple[object, ...]]
"""Two inferences with equal keys use the same call. Its parts are cheap to build and to compare.

Which parts of its references are used is not in it, so that any number of them needs one call.
"""


def signature(names: Names, inputs: Inputs) -> tuple[Key, Arrays, list[Reference]]:
    """The key of an inference, its inline inputs and its references, in the order of `inputs`."""
    key: list[object] = []
    arrays: Arrays = []
    references: list[Reference] = []
    for name, value in inputs.items():
        if type(value) is np.ndarray:
            key += (name, value.dtype, value.shape)
            arrays.append(value)
        elif type(value) is Reference:
            key += (name, value.output, value.take)
            references.append(value)
        elif type(value) is Zeros:
            key += (name, value)
        else:
            array = np.asarray(value)
            key += (name, array.dtype, array.shape)
            arrays.append(array)
    return (names, tuple(key)), arrays, references


def describe(
    model: str,
    version: str | None,
    inputs: Inputs,
    outputs: Sequence[str] | None,
    keep: Sequence[str] = (),
    keep_inputs: Sequence[str] = (),
) -> pb.Call:
    """The description that the server gets. `inputs` are normalized.

    Raises TypeError if `outputs`, `keep` or `keep_inputs` is a string instead of a list of strings, and ValueError for
    a name that is in both `keep` and `keep_inputs`.
    """
    for argument, names in (("outputs", outputs), ("keep", keep), ("keep_inputs", keep_inputs)):
        if isinstance(names, str):
            raise TypeError(f"{argument} takes a list of names, not a single name: write [{names!r}]")
    for name in keep_inputs:
        if name in keep:
            raise ValueError(
                f"keep and keep_inputs both have {name!r}, so ticket[{name!r}] would be an output as well as an input"
            )
    call = pb.Call(model=model, version=version or "", keep=keep, keep_inputs=keep_inputs)
    if outputs is None:
        call.all_outputs = True
    else:
        call.outputs.extend(outputs)
    for name, value in inputs.items():
        if isinstance(value, Reference):
            reference = pb.Reference(output=value.output, take=value.take)
            call.inputs.add(name=name, reference=reference)
        elif isinstance(value, Zeros):
            zeros = pb.Zeros(datatype=_datatype(value.dtype), shape=value.shape)
            call.inputs.add(name=name, zeros=zeros)
        else:
            array = np.asarray(value)
            inline = pb.Inline(datatype=_datatype(array.dtype), shape=array.shape)
            call.inputs.add(name=name, inline=inline)
    return call


def _datatype(dtype: np.dtype[Any]) -> pb.Datatype.ValueType:
    return pb.Datatype.ValueType(datatype_of(dtype))
