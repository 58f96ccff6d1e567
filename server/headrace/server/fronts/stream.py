"""`headrace.v1.Inference/Stream`: one reader and one writer each, no queue between but the core's."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from headrace.server.core.ports import Desk
from headrace.server.core.streams import Stream
from headrace.server.fronts.commands import obey
from headrace.server.fronts.events import Encoder

Context = grpc.aio.ServicerContext[Any, Any]


class StreamFront:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def stream(self, _requests: object, context: Context) -> None:
        """The handler: writes until the stream has ended, while `_read` reads."""
        desk = self._desk
        stream = desk.core.open_stream()
        encoder = Encoder()
        reader = asyncio.create_task(self._read(stream, context))
        try:
            while events := await desk.events(stream):
                await context.write(encoder.encode(events))
                desk.written(stream)
        finally:
            desk.leave(stream)
            reader.cancel()
            # Its exception, if it has one, is the stream's.
            await asyncio.wait([reader])
        if not reader.cancelled() and (error := reader.exception()) is not None:
            await context.abort(grpc.StatusCode.INTERNAL, desk.incident(error).message)

    async def _read(self, stream: Stream, context: Context) -> None:
        desk = self._desk
        try:
            while True:
                await desk.readable(stream)
                message = await context.read()
                if stream.ended:
                    return
                if message is grpc.aio.EOF:
                    desk.core.half_close(stream)
                    desk.act()
                    return
                obey(desk.core, stream, message, desk.now())
                desk.act()
        except BaseException:
            # Without a reader nobody would end the stream.
            desk.leave(stream)
            raise
