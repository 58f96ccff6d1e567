"""The load of a server and of its models. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The load of a version of a model: its slots by state, and the number of tickets that wait for one.

    `slots_stopping`: their ticket was cancelled or has expired, and the runtime has not let go of them yet.
    `slots_restoring`: a failed run has spoiled their compiled model, which is being restored.
    `inferences`: done since the model was loaded, in `executions` runs. `failures`: ended in any other way.
    `restorations`: how often a compiled model was restored.
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
    """What a server holds at one moment. `kept_bytes` counts kept outputs, `queued_bytes` inputs that wait or run."""

    version: str
    draining: bool
    streams: int
    tickets_in_flight: int
    kept_bytes: int
    queued_bytes: int
    models: tuple[ModelStatus, ...]


def status_from(message: pb.ServerStatusResponse) -> ServerStatus:
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
