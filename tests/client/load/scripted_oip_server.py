"""A server of the Open Inference Protocol with scripted latencies (`python -m tests.client.load.scripted_oip_server`).

Its models take x: FP32[?,16]. `echo` returns it as y; requests for `failing` end with an error; other models are not
found. It shares no code with Headrace's server, and sends the answers of a stream when they are ready, out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message

from headrace.oip import open_inference_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0))


class ScriptedOipServer:
    """`latency` gives the seconds from a request to its answer, by the number of the request, counting from 0.

    If `anonymous`, answers of a stream have no id and are in the order of the requests. If `has_statistics`, it serves
    ModelStatistics, in which a request waits for a quarter of its latency and computes for the rest.
    """

    def __init__(
        self, latency: Callable[[int], float], *, anonymous: bool = False, has_statistics: bool = True
    ) -> None:
        self.target = ""
        self.requests: deque[pb.ModelInferRequest] = deque(maxlen=10_000)
        """The latest."""
        self.count = 0
        self.at_once = self.most_at_once = 0
        """Requests without an answer: now, and at most so far."""
        self.peers: set[str] = set()
        """The connections on which requests arrived."""
        self._arrival = asyncio.Event()
        self._latency = latency
        self._anonymous = anonymous
        self._has_statistics = has_statistics
        self._done = 0
        self._seconds = 0.0

    async def arrived(self, count: int) -> None:
        """Wait until this many requests have arrived."""
        while self.count < count:
            self._arrival.clear()
            await self._arrival.wait()

    def handlers(self) -> grpc.GenericRpcHandler:
        calls: list[tuple[Callable[[Any, Context], Any], Any]] = [
            (self.ServerMetadata, pb.ServerMetadataRequest),
            (self.ModelReady, pb.ModelReadyRequest),
            (self.ModelMetadata, pb.ModelMetadataRequest),
            (self.ModelStatistics, pb.ModelStatisticsRequest),
            (self.ModelInfer, pb.ModelInferRequest),
        ]
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            call.__name__: grpc.unary_unary_rpc_method_handler(call, message.FromString, _serialised)
            for call, message in calls
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self.ModelStreamInfer, pb.ModelInferRequest.FromString, _serialised
        )
        return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="scripted", version="7")

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=request.name in ("echo", "failing"))

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        if request.name not in ("echo", "failing"):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=["9", "10"],
            inputs=[tensor(name="x", datatype="FP32", shape=[-1, 16])],
            outputs=[tensor(name="y", datatype="FP32", shape=[-1, 16])],
        )

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        if not self._has_statistics:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no statistics")
        duration, total = pb.StatisticDuration, round(self._seconds * 1e9)
        stats = pb.InferStatistics(
            success=duration(count=self._done, ns=total),
            queue=duration(count=self._done, ns=total // 4),
            compute_input=duration(count=self._done, ns=total // 4),
            compute_infer=duration(count=self._done, ns=total // 4),
            compute_output=duration(count=self._done, ns=total // 4),
        )
        others = pb.ModelStatistics(name="another", inference_stats=stats)
        return pb.ModelStatisticsResponse(
            model_stats=[others, pb.ModelStatistics(name=request.name, version="10", inference_stats=stats)]
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        self.peers.add(context.peer())
        response, error = await self._run(request)
        if error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error)
        return response

    async def ModelStreamInfer(self, requests: AsyncIterator[pb.ModelInferRequest], context: Context) -> None:
        turn = asyncio.Lock()
        previous: asyncio.Task[None] | None = None

        async def answer(request: pb.ModelInferRequest, before: asyncio.Task[None] | None) -> None:
            response, error = await self._run(request)
            if self._anonymous:
                response.id = ""
                if before is not None:
                    await before
            async with turn:
                await context.write(pb.ModelStreamInferResponse(infer_response=response, error_message=error))

        self.peers.add(context.peer())
        async with asyncio.TaskGroup() as tasks:
            async for request in requests:
                previous = tasks.create_task(answer(request, previous))

    async def _run(self, request: pb.ModelInferRequest) -> tuple[pb.ModelInferResponse, str]:
        number, self.count = self.count, self.count + 1
        self.requests.append(request)
        self._arrival.set()
        latency = self._latency(number)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(latency)
        finally:
            self.at_once -= 1
        response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        if request.model_name != "echo":
            return response, f"model {request.model_name} has failed"
        response.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        response.raw_output_contents.append(request.raw_input_contents[0])
        self._done += 1
        self._seconds += latency
        return response, ""


def _serialised(message: Message) -> bytes:
    return message.SerializeToString()


@asynccontextmanager
async def scripted_oip_server(
    server: ScriptedOipServer, address: str = "127.0.0.1:0"
) -> AsyncIterator[ScriptedOipServer]:
    """Run the server in this process, at `server.target`."""
    transport = grpc.aio.server(options=OPTIONS)
    transport.add_generic_rpc_handlers((server.handlers(),))
    server.target = f"127.0.0.1:{transport.add_insecure_port(address)}"
    await transport.start()
    try:
        yield server
    finally:
        await transport.stop(0)


@asynccontextmanager
async def oip_server_process(latencies: Path) -> AsyncIterator[str]:
    """The target of a server in a process of its own, where the test runner's garbage collection cannot delay it.

    `latencies` is a .npy file with the latency of each request.
    """
    command = (sys.executable, "-m", "tests.client.load.scripted_oip_server", str(latencies))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.communicate()  # unlike wait, it closes the pipe


async def _serve(latencies: Path) -> None:
    seconds = np.load(latencies).tolist()
    async with scripted_oip_server(ScriptedOipServer(seconds.__getitem__)) as server:
        gc.freeze()
        print(server.target, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("latencies", type=Path, help="a .npy file with the latency of each request in seconds")
    asyncio.run(_serve(parser.parse_args().latencies))
