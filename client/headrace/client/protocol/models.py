"""What a server says of its models and of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype, numpy_dtype

Dimension = int | tuple[int, int | None] | None
"""A size; (least, most), where most may be None; or None for any."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output. `shape` is None for any rank; `names` are all that it goes by."""

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
    """A version of a model. `slots` is how many inferences of it run at once.

    `has_variables`: it has a state of its own, which is reset before each run.
    """

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    has_variables: bool
    slots: int

    def __str__(self) -> str:
        inputs, outputs = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"{self.name} {self.version}: {inputs} -> {outputs}"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The load of a version of a model: its slots by state, and how many tickets wait for one.

    `slots_stopping` are those whose ticket was cancelled or has expired, until the runtime lets go; `slots_restoring`
    are restored, because a failed run has spoiled their compiled model. Since the model was loaded so many `inferences`
    are done, in so many `executions`; `failures` have ended otherwise, and there were so many `restorations`.
    """

    name: str
    version: str
    slots_free: int
    slots_running: int
    slots_stopping: int
    tickets_queued: int
    inferences: int
    failures: int
    executions: int
    slots_restoring: int = 0
    restorations: int = 0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What a server holds now. Bytes are of kept outputs, and of inputs that wait or run."""

    version: str
    draining: bool
    streams: int
    tickets_in_flight: int
    kept_bytes: int
    queued_bytes: int
    models: tuple[ModelStatus, ...]


def model_of(message: pb.ModelDescription) -> Model:
    return Model(
        message.name,
        message.version,
        tuple(map(_port, message.inputs)),
        tuple(map(_port, message.outputs)),
        message.has_variables,
        message.slots,
    )


def status_of(message: pb.ServerStatusResponse) -> ServerStatus:
    models = (
        ModelStatus(
            model.name,
            model.version,
            model.slots_free,
            model.slots_running,
            model.slots_stopping,
            model.tickets_queued,
            model.inferences,
            model.failures,
            model.executions,
            model.slots_restoring,
            model.restorations,
        )
        for model in message.models
    )
    return ServerStatus(
        message.version,
        message.draining,
        message.streams,
        message.tickets_in_flight,
        message.kept_bytes,
        message.queued_bytes,
        tuple(models),
    )


def _port(message: pb.Port) -> Port:
    # A datatype of a later version of the contract is shown by its number.
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
