"""`grpc.reflection`: what the services are, for grpcurl and the like. The package answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from headrace.server.services.call import Call, Service
from headrace.server.services.rpcs import Rpcs, parse


def reflection_service(services: Sequence[str], watches: Rpcs) -> Service:
    """Lists and describes `services`, and itself."""
    servicer = aio.ReflectionServicer((*services, SERVICE_NAME))

    async def answer(call: Call) -> None:
        async for response in servicer.ServerReflectionInfo(_requests(call), None):
            await call.write(response.SerializeToString())

    async def serve(call: Call) -> None:
        await watches.gate.while_open(answer(call))

    return Service(SERVICE_NAME, {"ServerReflectionInfo": watches.stream(serve)})


async def _requests(call: Call) -> AsyncIterator[pb.ServerReflectionRequest]:
    """Raises InvalidArgument."""
    while (data := await call.read()) is not call.end:
        yield parse(pb.ServerReflectionRequest, data)
