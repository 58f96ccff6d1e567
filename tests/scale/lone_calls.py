"""Unary calls, each of which its caller makes again as long as nobody is there to answer it."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import grpc
import grpc.aio
import numpy as np

import headrace.client as hc

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
REQUEST = b"\x0a\x05scale" + b"\x2a\x0c" + b"\x0a\x01x" + b"\x12\x04FP32" + b"\x1a\x01\x01" + b"\x3a\x04"
"""A ModelInferRequest of the model `scale` with x: f32[1], whose bytes follow. Stubs of `headrace.oip` do not go with
those of tritonclient."""
OUTPUT = b"\x32\x04"
"""What the bytes of the only output follow, at the end of a ModelInferResponse."""
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 500)]
"""A connection of its own; and what is lost is for the caller to repeat: see docs/guide/existing-clients.md."""
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
"""What a server that has gone looks like: by itself, and behind a proxy."""
PAUSE, SECONDS = 0.05, 60.0
"""Before a call is made again; and for an answer."""


@dataclass(slots=True)
class Calls:
    """What one caller has got. `failed` are the statuses of calls that it has made again."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    """Seconds from the first time that a call was made to its answer."""

    async def make(self, ask: Callable[[int], Awaitable[float]], stop: asyncio.Event, pause: float = 0.0) -> None:
        """Ask for one number after another, and compare each answer with what it must be."""
        loop = asyncio.get_running_loop()
        for number in count():
            if stop.is_set():
                return
            began = loop.time()
            assert await self._answer(ask, number) == 2 * number + 1
            self.done += 1
            self.longest = max(self.longest, loop.time() - began)
            await asyncio.sleep(pause)

    async def _answer(self, ask: Callable[[int], Awaitable[float]], number: int) -> float:
        while True:
            try:
                async with asyncio.timeout(SECONDS):
                    return await ask(number)
            except hc.Unavailable:
                self.failed["UNAVAILABLE"] += 1
            except grpc.aio.AioRpcError as error:
                if error.code() not in LOST:
                    raise
                self.failed[error.code().name] += 1
            await asyncio.sleep(PAUSE)


def native(server: hc.Server) -> Callable[[int], Awaitable[float]]:
    """Asks for a number by `Server.infer`."""

    async def ask(number: int) -> float:
        found = await server.infer("scale", {"x": np.full(1, number, np.float32)})
        return float(found["y"][0])

    return ask


def oip(channel: grpc.aio.Channel) -> Callable[[int], Awaitable[float]]:
    """Asks for a number by ModelInfer."""
    infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(MODEL_INFER)

    async def ask(number: int) -> float:
        answer = await infer(REQUEST + struct.pack("<f", number))
        assert answer[-6:-4] == OUTPUT, answer
        found: float = struct.unpack("<f", answer[-4:])[0]
        return found

    return ask
