"""A server that runs nothing: whatever is asked, in either protocol, is done at once and has no outputs.

It is as little work as a server can have, so that what is measured with it is the client.
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
    """The four ways to infer; nothing else is there."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        ways: dict[str, Any] = {
            "/headrace.v1.Inference/Stream": grpc.stream_stream_rpc_method_handler(_stream),
            "/headrace.v1.Inference/Infer": grpc.unary_unary_rpc_method_handler(_nothing),
            "/inference.GRPCInferenceService/ModelStreamInfer": grpc.stream_stream_rpc_method_handler(_oip_stream),
            "/inference.GRPCInferenceService/ModelInfer": grpc.unary_unary_rpc_method_handler(_nothing),
        }
        return ways.get(details.method)


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
    """A message of either protocol without any field."""
    return b""


def serve(parent: Connection) -> None:
    """Say where it listens, and serve until the parent says or is gone. The main function of a process."""
    asyncio.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    parent.send(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent.fileno(), over.set)
    await over.wait()
    await server.stop(0)
