"""The limit of the transport: a plain grpc.aio echo in a process of its own (`python -m tests.bench.echo`)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import grpc
import grpc.aio

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
]
SERVICE = "headrace.bench.Echo"
STREAM, UNARY = f"/{SERVICE}/Stream", f"/{SERVICE}/Unary"
WINDOW = 32


async def messages_per_second(
    target: str, message: bytes, count: int, window: int = WINDOW, method: str = STREAM
) -> tuple[float, float]:
    """Messages per second on a stream, and the median round trip in seconds."""
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        call, window_slots = start(), asyncio.Semaphore(window)
        sent: list[float] = []
        took: list[float] = []

        async def read() -> None:
            for number in range(count):
                await call.read()
                took.append(time.perf_counter() - sent[number])
                window_slots.release()

        began = time.perf_counter()
        reader = asyncio.create_task(read())
        for _ in range(count):
            await window_slots.acquire()
            sent.append(time.perf_counter())
            await call.write(message)
        await reader
        rate = count / (time.perf_counter() - began)
        call.cancel()
        return rate, median(took)


async def calls_per_second(target: str, message: bytes, count: int, method: str = UNARY) -> float:
    """Unary calls per second, WINDOW at a time."""
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)

        async def work() -> None:
            for _ in range(count // WINDOW):
                await call(message)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WINDOW):
                tasks.create_task(work())
        return count / (time.perf_counter() - began)


@contextmanager
def echo_server() -> Iterator[str]:
    """Run an echo in the block and return its address."""
    command = [sys.executable, "-m", "tests.bench.echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
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
