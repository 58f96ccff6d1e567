"""`headrace.v1.Inference/Stream`: one reader and one writer each, no queue between but the core's."""

from __future__ import annotations

import grpc

from headrace.server.core.state import Stream
from headrace.server.services.api import Desk
from headrace.server.services.eager import EagerCoroutine
from headrace.server.services.native.commands import apply_commands
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.reading import reading
from headrace.server.services.status import Context


class StreamFront:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def stream(self, context: Context) -> None:
        """The handler: writes until the stream has ended, while `_read` reads."""
        desk = self._desk
        stream = desk.core.open_stream()
        writer = _Writer(desk, stream, context)
        try:
            async with reading(desk, stream, _read(desk, stream, context, writer)):
                await writer.run()
        finally:
            writer.close()


async def _read(desk: Desk, stream: Stream, context: Context, writer: _Writer) -> None:
    while True:
        if not stream.may_read:
            await desk.readable(stream)
        message = await context.read()
        if stream.ended:
            return
        if message is grpc.aio.EOF:
            desk.core.half_close(stream)
            desk.act()
            return
        apply_commands(desk.core, stream, message, desk.now())
        desk.act()
        writer.begin()


class _Writer:
    """Writes the frames of a stream, one after the other.

    What is ready when commands have been read begins to be written there and then, before more is read and not in the
    writer's next turn: of a round trip with one small inference that is a tenth.
    """

    def __init__(self, desk: Desk, stream: Stream, context: Context) -> None:
        self._desk = desk
        self._stream = stream
        self._context = context
        self._encoder = Encoder()
        self._frame: EagerCoroutine | None = None

    async def run(self) -> None:
        """Until the stream has ended, and what the reader has begun to write is written."""
        desk, stream = self._desk, self._stream
        while True:
            self.begin()
            if self._frame is not None:
                await self._frame
                self._frame = None
                desk.flushed(stream)
            elif not await desk.changed(stream) and self._frame is None:
                return

    def close(self) -> None:
        """Write nothing more. A frame that was begun in the reader's turn may not be awaited yet."""
        if self._frame is not None:
            self._frame.cancel()

    def begin(self) -> None:
        """Begin to write what there is, unless a frame is being written."""
        if self._frame is None and (events := self._stream.take()):
            self._frame = EagerCoroutine(self._context.write(self._encoder.encode(events)))
            self._desk.handed_off(self._stream, events)
