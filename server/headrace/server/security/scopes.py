"""What each RPC is for. One that is not listed cannot be served."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What an identity may do. Health is no scope: everybody may ask, or every identity."""

    INFER = "infer"
    METADATA = "metadata"
    STATISTICS = "statistics"
    CONTROL = "control"


_NATIVE, _OIP, _REFLECTION = "headrace.v1.Inference", "inference.GRPCInferenceService", "grpc.reflection.v1alpha"
_RPCS: dict[Scope | None, dict[str, tuple[str, ...]]] = {
    None: {"grpc.health.v1.Health": ("Check", "Watch"), _OIP: ("ServerLive", "ServerReady")},
    Scope.INFER: {
        _NATIVE: ("Stream", "Infer"),
        _OIP: (
            "ModelInfer",
            "ModelStreamInfer",
            "SystemSharedMemoryStatus",
            "SystemSharedMemoryRegister",
            "SystemSharedMemoryUnregister",
            "CudaSharedMemoryStatus",
            "CudaSharedMemoryRegister",
            "CudaSharedMemoryUnregister",
        ),
    },
    Scope.METADATA: {
        _NATIVE: ("ListModels", "DescribeModel"),
        _OIP: ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "RepositoryIndex"),
        f"{_REFLECTION}.ServerReflection": ("ServerReflectionInfo",),
    },
    Scope.STATISTICS: {_NATIVE: ("ServerStatus",), _OIP: ("ModelStatistics",)},
    Scope.CONTROL: {
        _NATIVE: ("LoadModel", "UnloadModel"),
        _OIP: ("RepositoryModelLoad", "RepositoryModelUnload", "LogSettings", "TraceSetting"),
    },
}
SCOPES: dict[str, Scope | None] = {
    f"/{service}/{name}": scope
    for scope, services in _RPCS.items()
    for service, names in services.items()
    for name in names
}
"""By the path of the RPC; None for health."""
