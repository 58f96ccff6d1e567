"""A server that runs nothing: it answers every request, in either protocol, at once and without outputs.

It does as little work as a server can, so that measuring with it measures the client.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any

import grpc
import grpc.aio

from headrace.v1 import inference_pb2 as v1
from headrace.wire.frames import parse_frame

WINDOW = 1024
MAX_MESSAGE_BYTES = 64 << 20
Context = grpc.aio.ServicerContext[bytes, bytes]


class Echo(grpc.GenericRpcHandler):
    """Serves the four ways to infer and nothing else."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handlers: dict[str, Any] = {
            "/headrace.v1.Inference/Stream": grpc.stream_stream_rpc_method_handler(_stream),
            "/headrace.v1.Inference/Infer": grpc.unary_unary_rpc_method_handler(_nothing),
            "/inference.GRPCInferenceService/ModelStreamInfer": grpc.stream_stream_rpc_method_handler(_oip_stream),
            "/inference.GRPCInferenceService/ModelInfer": grpc.unary_unary_rpc_method_handler(_nothing),
        }
        return handlers.get(details.method)


async def _stream(_: object, context: Context) -> None:
    hello = v1.Hello(version="0", window=WINDOW, max_message_bytes=MAX_MESSAGE_BYTES)
    await context.write(v1.ServerFrame(events=[v1.Event(kind=v1.Event.HELLO, hello=hello)]).SerializeToString())
    while isinstance(message := await context.read(), bytes):
        frame, _tensors = parse_frame(message, v1.ClientFrame())
        tags = [command.tag for command in frame.commands if command.kind == v1.Command.INFER]
        if tags:
            events = [v1.Event(kind=v1.Event.DONE, tag=tag) for tag in tags]
            await context.write(v1.ServerFrame(events=events).SerializeToString())


async def _oip_stream(_: object, context: Context) -> None:
    from headrace.oip import open_inference_pb2 as oip

    while isinstance(message := await context.read(), bytes):
        request = oip.ModelInferRequest.FromString(message)
        answer = oip.ModelStreamInferResponse(infer_response=oip.ModelInferResponse(id=request.id))
        await context.write(answer.SerializeToString())


async def _nothing(_message: bytes, _context: object) -> bytes:
    """An answer without any field, in either protocol."""
    return b""


def serve(parent: Connection) -> None:
    """Send the address to the parent, and serve until it sends anything or is gone. The main function of a process."""
    asyncio.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    parent.send(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    parent_is_done = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent.fileno(), parent_is_done.set)
    await parent_is_done.wait()
    await server.stop(0)
