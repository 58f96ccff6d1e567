"""The models of a server, with their inputs and outputs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype, numpy_dtype

Dimension = int | tuple[int, int | None] | None
"""A size; a range `(min, max)`, where max may be None; or None for any size."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model. `shape` is None for any rank; `names` are all of its names."""

    name: str
    datatype: str
    shape: tuple[Dimension, ...] | None
    names: tuple[str, ...] = field(repr=False)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the datatype: `ml_dtypes.bfloat16` for BF16, object for BYTES."""
        return numpy_dtype(Datatype[self.datatype])

    def __str__(self) -> str:
        shape = "any rank" if self.shape is None else ",".join(map(_text, self.shape))
        return f"{self.name} {self.datatype}[{shape}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A version of a model. `slots` is how many of its inferences run at once.

    `has_variables`: the model has an internal state, which is reset before each run; with `sequences` it is kept from
    request to request of a sequence of the Open Inference Protocol. `direct`: runs that are quick
    enough are done in place; `direct_reason` says why not. `batch` is the maximum number of rows of a run that tickets
    share, and `batch_reason` says what limits it.

    `streams` runs compute at once, each with so many `threads` of the processor (0: on another device). Among models
    that share it, those of the highest `priority` come first, and of these each gets a part in proportion to its
    `weight`. `weights_bytes` is the size of the constants in its file, and `memory_bytes` what loading it has added to
    the memory of the server.

    Servers of other protocols do not tell anything from `direct` on.
    """

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_variables: bool
    slots: int
    direct: bool = False
    direct_reason: str = field(default="", repr=False)
    batch: int = 1
    batch_reason: str = field(default="", repr=False)
    sequences: bool = False
    weight: int = 1
    priority: int = 0
    streams: int = 0
    threads: int = 0
    weights_bytes: int = 0
    memory_bytes: int = 0

    def __str__(self) -> str:
        inputs, outputs = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"{self.name} {self.version}: {inputs} -> {outputs}"


@dataclass(frozen=True, slots=True)
class ModelState:
    """A version that a server knows, or a model of which it knows no version: that is then empty.

    `state` is READY, LOADING, UNLOADING or UNAVAILABLE. `reason` says why it is not ready, or why its files could not
    be loaded again.
    """

    name: str
    version: str
    state: str
    reason: str


def state_from(message: pb.ModelState) -> ModelState:
    # A state from a later version of the contract is shown as its number.
    known = message.state in pb.ModelState.State.values()
    state = pb.ModelState.State.Name(message.state) if known else str(message.state)
    return ModelState(message.name, message.version, state, message.reason)


def model_from(message: pb.ModelDescription) -> Model:
    return Model(
        message.name,
        message.version,
        tuple(map(_port, message.inputs)),
        tuple(map(_port, message.outputs)),
        message.has_variables,
        message.slots,
        message.direct,
        message.direct_reason,
        message.batch or 1,
        message.batch_reason,
        message.sequences,
        message.weight or 1,
        message.priority,
        message.streams,
        message.threads,
        message.weights_bytes,
        message.memory_bytes,
    )


def _port(message: pb.Port) -> Port:
    # A datatype from a later version of the contract is shown as its number.
    known = message.datatype in pb.Datatype.values()
    datatype = pb.Datatype.Name(message.datatype) if known else str(message.datatype)
    shape = None if message.any_rank else tuple(map(_dimension, message.shape))
    return Port(message.name, datatype, shape, tuple(message.names))


def _dimension(message: pb.Dimension) -> Dimension:
    if message.min == message.max:
        return message.min
    if message.max < 0:
        return (message.min, None) if message.min else None
    return message.min, message.max


def _text(dimension: Dimension) -> str:
    if dimension is None:
        return "?"
    if isinstance(dimension, int):
        return str(dimension)
    least, most = dimension
    return f"{least}.." + ("" if most is None else str(most))
