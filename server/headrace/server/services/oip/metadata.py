"""Metadata of the server and its models, and whether they are ready."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from headrace.oip import model_config_pb2 as config_pb
from headrace.oip import open_inference_pb2 as pb
from headrace.server.core.specs import ModelSpec, Port
from headrace.server.services.api import Readiness, Streams
from headrace.server.version import VERSION
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import NotFound, Unavailable

_PLATFORM = "openvino"
_MAX_UINT64 = (1 << 64) - 1


class MetadataRpcs:
    """`extensions` names the server's extensions of the standard."""

    def __init__(self, streams: Streams, extensions: Sequence[str], readiness: Readiness) -> None:
        self._streams = streams
        self._extensions = extensions
        self._readiness = readiness

    async def server_live(self, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._readiness.ready())

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """A model that does not exist is not ready; this is not an error."""
        try:
            self._streams.view.models.find(request.name, request.version)
        except (NotFound, Unavailable):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._readiness.serving())

    async def server_metadata(self, _request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="headrace", version=VERSION, extensions=self._extensions)

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        models = self._streams.view.models
        spec = models.find(request.name, request.version).spec
        return pb.ModelMetadataResponse(
            name=spec.name,
            versions=[model.spec.version for model in models if model.spec.name == spec.name],
            platform=_PLATFORM,
            inputs=[_tensor(port) for port in spec.inputs],
            outputs=[_tensor(port) for port in spec.outputs],
        )

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        view = self._streams.view
        spec = view.models.find(request.name, request.version).spec
        config = _config(spec)
        if spec.sequences:
            # Clients that measure send sequences to a model that has this.
            idle = min(round(view.limits.keep_seconds * 1e6), _MAX_UINT64) if isfinite(view.limits.keep_seconds) else 0
            config.sequence_batching.max_sequence_idle_microseconds = idle
            config.sequence_batching.direct.SetInParent()
        return pb.ModelConfigResponse(config=config)


def _tensor(port: Port) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=port.name, datatype=port.datatype.name, shape=_dims(port))


def _config(spec: ModelSpec) -> config_pb.ModelConfig:
    group = config_pb.ModelInstanceGroup(
        name=f"{spec.name}_0", count=spec.slots, kind=config_pb.ModelInstanceGroup.KIND_CPU
    )
    inputs = [
        config_pb.ModelInput(name=port.name, data_type=_data_type(port.datatype), dims=_dims(port))
        for port in spec.inputs
    ]
    outputs = [
        config_pb.ModelOutput(
            name=port.name,
            data_type=_data_type(port.datatype),
            dims=_dims(port),
            label_filename="labels.txt" if spec.labels_of(port) else "",
        )
        for port in spec.outputs
    ]
    return config_pb.ModelConfig(
        name=spec.name,
        platform=_PLATFORM,
        backend=_PLATFORM,
        max_batch_size=0,
        input=inputs,
        output=outputs,
        instance_group=[group],
        model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=False),
        parameters={name: config_pb.ModelParameter(string_value=value) for name, value in _decision(spec).items()},
    )


def _decision(spec: ModelSpec) -> dict[str, str]:
    """How the model runs and why, how it shares the processor, and what memory it takes."""
    return {
        "direct": str(spec.direct).lower(),
        "direct_reason": spec.direct_reason,
        "batch": str(spec.batch),
        "batch_reason": spec.batch_reason,
        "weight": str(spec.weight),
        "priority": str(spec.priority),
        "streams": str(spec.streams),
        "threads": str(spec.threads),
        "weights_bytes": str(spec.weights_bytes),
        "memory_bytes": str(spec.memory_bytes),
    }


def _data_type(datatype: Datatype) -> config_pb.DataType.ValueType:
    return config_pb.DataType.Value("TYPE_STRING" if datatype is Datatype.BYTES else f"TYPE_{datatype.name}")


def _dims(port: Port) -> Sequence[int]:
    """The dimensions, -1 for a dynamic one. A dynamic rank is a single -1."""
    if port.shape is None:
        return (-1,)
    return [dimension.min if dimension.static else -1 for dimension in port.shape]
