"""`grpc.reflection`: descriptions of the services for grpcurl and similar tools, from grpcio-reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from headrace.server.services.call import Call, Service
from headrace.server.services.rpcs import RpcFactory, parse


def reflection_service(services: Sequence[str], watches: RpcFactory) -> Service:
    """A service that lists and describes `services` and itself."""
    servicer = aio.ReflectionServicer((*services, SERVICE_NAME))

    async def respond(call: Call) -> None:
        async for response in servicer.ServerReflectionInfo(_requests(call), None):
            await call.write(response.SerializeToString())

    async def serve(call: Call) -> None:
        await watches.gate.while_open(respond(call))

    return Service(SERVICE_NAME, {"ServerReflectionInfo": watches.bidirectional(serve)})


async def _requests(call: Call) -> AsyncIterator[pb.ServerReflectionRequest]:
    """Raises InvalidArgument."""
    while (data := await call.read()) is not call.end:
        yield parse(pb.ServerReflectionRequest, data)
