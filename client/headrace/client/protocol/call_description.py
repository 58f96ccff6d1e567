"""What describes a call: the key that tells calls apart, and the message that the server gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.arrays import as_array
from headrace.client.protocol.inputs import Inputs, NormalInputs, Reference, Zeros, normal
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import datatype_of

Arrays: TypeAlias = list[npt.NDArray[Any]]
Names = tuple[str, str | None, tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]
"""Model, version, outputs, keep, keep_inputs."""
Key = tuple[Names, tuple[object, ...]]
"""Two inferences with equal keys use the same call. Its parts are cheap to build and to compare.

Which parts of its references are used is not in it, so that any number of them needs one call.
"""


def signature(names: Names, inputs: Inputs) -> tuple[Key, Arrays, list[Reference], tuple[str, ...]]:
    """The key of an inference, its inline inputs and its references, in the order of `inputs`.

    And the names of the inputs that are plain Python numbers. With such inputs no call has this key.

    Raises the errors of `as_array`.
    """
    key: list[object] = []
    arrays: Arrays = []
    references: list[Reference] = []
    plain: tuple[str, ...] = ()
    value: Any
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
            array, numbers = as_array(name, value)
            if numbers:
                plain += (name,)
            key += (name, None if numbers else array.dtype, array.shape)
            arrays.append(array)
    return (names, tuple(key)), arrays, references, plain


def normalize(inputs: Inputs, arrays: Arrays) -> NormalInputs:
    """The inputs with the arrays that `signature` has made of them, in the dtypes of the wire.

    Raises InvalidArgument, naming the input, for a dtype without a datatype.
    """
    inline = iter(arrays)
    return {
        name: value if isinstance(value, Reference | Zeros) else normal(name, next(inline))
        for name, value in inputs.items()
    }


def normalized(inputs: Inputs) -> tuple[NormalInputs, tuple[str, ...]]:
    """The inputs in the dtypes of the wire, and the names of those that are plain Python numbers.

    Raises the errors of `signature` and `normalize`.
    """
    _, arrays, _, plain = signature(("", None, None, (), ()), inputs)
    return normalize(inputs, arrays), plain


def as_names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names in any iterable, such as a list, a set or an iterator.

    Raises TypeError for a single name, and for what is not a name.
    """
    if isinstance(names, str):
        raise TypeError(f"{argument} takes a list of names, not a single name: write [{names!r}]")
    found: tuple[Any, ...] = tuple(names)
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{argument} takes names, which {name!r} is not")
    return found


def as_version(version: object) -> str | None:
    """A version as the contract has it. Raises TypeError for what is neither text nor an integer."""
    if version is None or isinstance(version, str):
        return version
    if isinstance(version, bool) or not isinstance(version, SupportsIndex):
        raise TypeError(f"version takes a string or an integer, not {version!r}")
    return str(index(version))


def names_of(
    model: str,
    version: str | SupportsIndex | None,
    outputs: Iterable[str] | None,
    keep: Iterable[str] = (),
    keep_inputs: Iterable[str] = (),
) -> Names:
    """What a caller has named, in the types of the key of a call.

    Raises the errors of `as_names` and `as_version`, and ValueError for a name in both `keep` and `keep_inputs`.
    """
    kept, kept_inputs = as_names("keep", keep), as_names("keep_inputs", keep_inputs)
    for name in kept_inputs:
        if name in kept:
            raise ValueError(
                f"keep and keep_inputs both have {name!r}, so ticket[{name!r}] would be an output as well as an input"
            )
    named_outputs = None if outputs is None else as_names("outputs", outputs)
    return model, as_version(version), named_outputs, kept, kept_inputs


def describe(names: Names, inputs: NormalInputs) -> pb.Call:
    """The description that the server gets."""
    model, version, outputs, keep, keep_inputs = names
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
            inline = pb.Inline(datatype=_datatype(value.dtype), shape=value.shape)
            call.inputs.add(name=name, inline=inline)
    return call


def _datatype(dtype: np.dtype[Any]) -> pb.Datatype.ValueType:
    return pb.Datatype.ValueType(datatype_of(dtype))
