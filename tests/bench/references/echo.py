"""The limit of the transport: a plain echo of grpc.aio, run by `python -m tests.bench.references.echo`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
)
SERVICE = "headrace.bench.Echo"
STREAM, UNARY = f"/{SERVICE}/Stream", f"/{SERVICE}/Unary"


@dataclass(frozen=True, slots=True)
class Echo:
    address: str
    pid: int


@contextmanager
def echo_server() -> Iterator[Echo]:
    """An echo that runs inside the block."""
    command = [sys.executable, "-m", "tests.bench.references.echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Echo(process.stdout.readline().strip(), process.pid)
        finally:
            process.kill()


async def _serve() -> None:
    async def echo(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)

    async def echo_one(message: bytes, _: object) -> bytes:
        return message

    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Stream": grpc.stream_stream_rpc_method_handler(echo),
        "Unary": grpc.unary_unary_rpc_method_handler(echo_one),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
