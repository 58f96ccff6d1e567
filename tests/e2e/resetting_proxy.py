"""A proxy between clients and a server that resets all connections at once, as when a host with clients disappears."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType


class ResettingProxy:
    """`address` is for clients; `reset` resets every connection to the server."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._servers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            server_reader, server = await asyncio.open_connection(self._host, self._port)
            ends.append(server)
            self._servers.add(server)
            await asyncio.gather(_copy(reader, server), _copy(server_reader, writer))
            self._servers.discard(server)
        except (OSError, asyncio.CancelledError):  # no server, or the end; asyncio's streams would report it
            for end in ends:
                end.transport.abort()

    def reset(self, most: int | None = None) -> int:
        """Reset all connections, or so many of them. Returns their number."""
        return asyncio.run_coroutine_threadsafe(self._reset(most), self._loop).result(30)

    async def _reset(self, most: int | None) -> int:
        chosen = [server for server in self._servers if not server.transport.is_closing()][:most]
        for server in chosen:
            connection = server.get_extra_info("socket")
            # Without lingering, closing a connection resets it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.transport.abort()
        self._servers.difference_update(chosen)
        return len(chosen)

    def __enter__(self) -> ResettingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
