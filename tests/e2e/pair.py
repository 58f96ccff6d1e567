"""Two servers of the same models, which a test ends and starts again."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.serving import Served


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Pair:
    """Two servers of the same models, each at a port of its own, which it gets back when it is started again."""

    def __init__(self, folder: Path, arguments: Sequence[str], module: str) -> None:
        self._folder = folder
        self._module = module
        self._arguments = [*arguments, "--property=INFERENCE_PRECISION_HINT=f32"]
        self._numbers = itertools.count()
        self.ports = [free_port(), free_port()]
        self.servers = [self._start(port) for port in self.ports]
        self.target = ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def _start(self, port: int) -> Served:
        log = self._folder / f"server-{next(self._numbers)}.log"
        return Served([*self._arguments, f"--port={port}"], log, module=self._module)

    async def ready(self) -> None:
        for served in self.servers:
            await asyncio.to_thread(served.ready)

    def end(self, index: int, number: int) -> None:
        self.servers[index].process.send_signal(number)

    async def start_again(self, index: int) -> None:
        await asyncio.to_thread(self.servers[index].process.wait, 20)
        self.servers[index].__exit__(None, None, None)
        self.servers[index] = self._start(self.ports[index])
        await asyncio.to_thread(self.servers[index].ready)

    def close(self) -> None:
        for served in self.servers:
            served.__exit__(None, None, None)


@asynccontextmanager
async def pair(folder: Path, *arguments: str, module: str = "headrace.server") -> AsyncIterator[Pair]:
    servers = Pair(folder, arguments, module)
    try:
        await servers.ready()
        yield servers
    finally:
        servers.close()
