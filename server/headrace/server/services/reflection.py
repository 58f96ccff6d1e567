"""`grpc.reflection`: what the services are, for grpcurl and the like.

The package answers; that bad bytes and the server's end have statuses is done here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from headrace.server.services.rpcs import Rpcs, parse
from headrace.server.services.status import Context


def reflection_service(services: Sequence[str], watches: Rpcs) -> grpc.GenericRpcHandler:
    """Lists and describes `services`, and itself."""
    servicer = aio.ReflectionServicer((*services, SERVICE_NAME))

    async def answer(context: Context) -> None:
        async for response in servicer.ServerReflectionInfo(_requests(context), context):
            await context.write(response.SerializeToString())

    async def serve(context: Context) -> None:
        await watches.gate.while_open(answer(context))

    return grpc.method_handlers_generic_handler(SERVICE_NAME, {"ServerReflectionInfo": watches.stream(serve)})


async def _requests(context: Context) -> AsyncIterator[pb.ServerReflectionRequest]:
    """Raises InvalidArgument."""
    while (data := await context.read()) is not grpc.aio.EOF:
        yield parse(pb.ServerReflectionRequest, data)
