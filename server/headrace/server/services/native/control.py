"""The calls of `headrace.v1.Inference` that list, load and unload models."""

from __future__ import annotations

from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import Port
from headrace.server.core.state import Ticket
from headrace.server.services.api import Control, Streams
from headrace.server.services.gate import Gate
from headrace.v1 import inference_pb2 as pb


class ControlRpcs:
    """Waiting for a model ends when `gate` closes: the server does not delay its end for that."""

    def __init__(self, streams: Streams, control: Control, gate: Gate) -> None:
        self._streams = streams
        self._control = control
        self._gate = gate

    async def list_models(self, _request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        states = [
            pb.ModelState(
                name=each.name,
                version=each.version,
                state=pb.ModelState.State.Value(each.state),
                reason=each.reason,
            )
            for each in self._control.index()
        ]
        return pb.ListModelsResponse(models=[_describe(model) for model in self._streams.view.models], states=states)

    async def describe_model(self, request: pb.DescribeModelRequest) -> pb.ModelDescription:
        return _describe(self._streams.view.models.find(request.name, request.version))

    async def load(self, request: pb.LoadModelRequest) -> pb.LoadModelResponse:
        await self._gate.while_open(self._control.load(request.name))
        return pb.LoadModelResponse()

    async def unload(self, request: pb.UnloadModelRequest) -> pb.UnloadModelResponse:
        await self._gate.while_open(self._control.unload(request.name))
        return pb.UnloadModelResponse()


def _describe(model: ModelQueue[Ticket]) -> pb.ModelDescription:
    spec = model.spec
    return pb.ModelDescription(
        name=spec.name,
        version=spec.version,
        inputs=[_port(port) for port in spec.inputs],
        outputs=[_port(port) for port in spec.outputs],
        has_variables=spec.has_variables,
        slots=spec.slots,
        direct=spec.direct,
        direct_reason=spec.direct_reason,
        batch=spec.batch,
        batch_reason=spec.batch_reason,
        sequences=spec.sequences,
        weight=spec.weight,
        priority=spec.priority,
        streams=spec.streams,
        threads=spec.threads,
        weights_bytes=spec.weights_bytes,
        memory_bytes=spec.memory_bytes,
    )


def _port(port: Port) -> pb.Port:
    return pb.Port(
        name=port.name,
        datatype=pb.Datatype.ValueType(port.datatype),
        shape=[pb.Dimension(min=dimension.min, max=dimension.max) for dimension in port.shape or ()],
        any_rank=port.shape is None,
        names=port.names,
    )
