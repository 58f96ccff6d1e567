"""`headrace.v1.Inference/Stream`: one reader and one writer per stream, and no queue between them except the core's."""

from __future__ import annotations

from headrace.server.services.api import StreamHandle, Streams
from headrace.server.services.call import Call
from headrace.server.services.eager import EagerCoroutine
from headrace.server.services.native.commands import apply_commands
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.native.layouts import Layouts
from headrace.server.services.reader import reader_task

LARGE_FRAME = 512
"""Bytes from which frames wait for their turn: that many may be 40 commands, and take 0.4 ms."""


class StreamRpc:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._layout_quota = streams.view.accounts.caches

    async def stream(self, call: Call) -> None:
        """Handle a call: write until the stream has ended, while `_read` reads in a task of its own."""
        handle = self._streams.open(call.peer())
        writer = _Writer(handle, call, Encoder(Layouts(self._layout_quota)))
        try:
            async with reader_task(handle, _read(handle, call, writer)):
                await writer.run()
        finally:
            writer.close()


async def _read(handle: StreamHandle, call: Call, writer: _Writer) -> None:
    read, end = call.read, call.end
    while True:
        await handle.wait_until_readable()
        message = await read()
        if handle.ended:
            return
        if message is end:
            handle.half_close()
            return
        if len(message) >= LARGE_FRAME and (turn := call.turn()) is not None:
            await turn
            if handle.ended:
                return
        handle.submit(apply_commands, message)
        writer.begin()


class _Writer:
    """Writes the frames of a stream, one after the other.

    If events are ready right after commands were read, the reader begins to write them before it reads on, instead of
    leaving them to the writer's next turn. That saves a tenth of the round trip of one small inference.
    """

    def __init__(self, handle: StreamHandle, call: Call, encoder: Encoder) -> None:
        self._handle = handle
        self._write = call.write
        self._turn = call.turn
        self._wrote_large = False
        """Whether the frame that was written last was large: the next one may be, too."""
        self._encoder = encoder
        self._frame: EagerCoroutine | None = None

    async def run(self) -> None:
        """Write until the stream has ended and the last frame is written, whether the reader or this task began it."""
        handle = self._handle
        while True:
            if self._wrote_large and self._frame is None and handle.has_events and (turn := self._turn()) is not None:
                await turn
            self.begin()
            if self._frame is not None:
                await self._frame
                self._frame = None
                handle.flushed()
            elif not await handle.wait_for_events() and self._frame is None:
                return

    def close(self) -> None:
        """Cancel the current write: the reader may have begun one that is not awaited yet."""
        if self._frame is not None:
            self._frame.cancel()
        self._encoder.close()

    def begin(self) -> None:
        """Begin to write the events that are ready, unless a frame is already being written."""
        if self._frame is None and (events := self._handle.take()):
            message = self._encoder.encode(events)
            self._wrote_large = len(message) >= LARGE_FRAME
            self._frame = EagerCoroutine(self._write(message))
            self._handle.handed_off(events)
