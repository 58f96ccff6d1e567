"""Outputs that are not asked for are not read, copied or sent; inputs are used where they lie. Counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import headrace.client as hc
from headrace.server.core import events as said
from headrace.server.core.core import Core
from headrace.server.core.engine_api import Ended
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import Quota
from headrace.server.engine import outputs
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.engine.tensors import Data, OutputTensor
from headrace.server.services.native.commands import apply_commands
from headrace.server.services.native.encoder import Encoder
from headrace.server.services.native.layouts import Layouts
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.frames import SCAN_FROM, join_frame, parse_frame
from headrace.wire.tensors import Buffer
from tests import models
from tests.e2e.serving import Served
from tests.e2e.trickle import Trickle
from tests.interpreted import interpreted

Command, Event = pb.Command, pb.Event
LARGE = 1 << 20


class Desk:
    """Core, engine and codec with nothing between but this test."""

    def __init__(self, path: Path) -> None:
        self.core = Core(Limits())
        self.engine = OpenVinoEngine()
        self.woken = threading.Event()
        self.engine.on_ended(self.woken.set)
        properties = {"INFERENCE_PRECISION_HINT": "f32"}
        self.core.models.add(self.engine.load("m", "1", path, Compilation(properties=properties)))
        self.stream = self.core.open_stream()
        self.core.open(self.stream, False, 64 << 20)
        self.encoder = Encoder(Layouts(Quota(32 << 20)))
        self.frame()

    def receive(self, *commands: pb.Command, tensors: tuple[bytes, ...] = ()) -> bytes:
        """Take a message, start what it asks for, and give the message, whose memory the runs use."""
        message = join_frame(pb.ClientFrame(commands=commands).SerializeToString(), tensors)
        apply_commands(self.core, self.stream, 0.0, message)
        for run in self.core.decide(0.0).starts:
            ended = self.engine.start(run)
            self._ended([ended] if ended else [])
        return message

    def finish(self) -> None:
        while self.stream.infers and not self.stream.outbox:
            assert self.woken.wait(20)
            self.woken.clear()
            self._ended(self.engine.collect())

    def take(self) -> list[said.Event]:
        events = self.stream.take()
        self.core.handed_off(self.stream, events, 0.0)
        return events

    def frame(self) -> bytes:
        return self.encoder.encode(self.take())

    def _ended(self, runs: list[Ended]) -> None:
        for ended in runs:
            assert ended.error is None
            self.core.run_ended(ended, None, 0.0)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(models.large_scale(tmp_path))
    yield desk
    desk.engine.close()


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(models.wide(tmp_path))
    yield desk
    desk.engine.close()


def define(shape: tuple[int, ...], outputs: tuple[str, ...], keep: tuple[str, ...] = ()) -> pb.Command:
    x = pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=shape))
    return Command(kind=Command.DEFINE, call=1, define=pb.Call(model="m", inputs=[x], outputs=outputs, keep=keep))


def address(data: Buffer) -> int:
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def test_a_large_input_is_used_where_the_message_lies(large: Desk) -> None:
    data = np.arange(LARGE, dtype=np.float32)
    message = large.receive(define((LARGE,), ("y",)), Command(tag=1, call=1, tensors=1), tensors=(data.tobytes(),))
    assert len(message) > SCAN_FROM
    (slot,) = [slot for loaded in large.engine._models.values() for slot in loaded.slots if slot.run]
    assert slot.run is not None
    # Its memory is the end of the message: not copied by the frame, by the core, or by the engine.
    where = address(message) + len(message) - data.nbytes
    (part,) = slot.run.parts
    assert address(part.inline[0]) == where
    assert address(slot._inputs._in_use[0].data) == where
    large.finish()
    assert slot._request.get_input_tensor(0).data.ctypes.data == where
    frame, tensors = parse_frame(large.frame(), pb.ServerFrame())
    assert [event.kind for event in frame.events] == [Event.LAYOUT, Event.DONE]
    np.testing.assert_array_equal(np.frombuffer(tensors[0], np.float32), 2 * data + 1)


@interpreted
def test_an_output_that_was_not_asked_for_is_not_read(wide: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, ...]] = []
    slots = [slot for loaded in wide.engine._models.values() for slot in loaded.slots]

    def counted(datatype: Datatype, shape: tuple[int, ...], data: Data) -> OutputTensor:
        reads.append(shape)
        return OutputTensor(datatype, shape, data)

    monkeypatch.setattr(outputs, "OutputTensor", counted)
    scratch = [slot._outputs._scratch[1].data.ctypes.data for slot in slots]
    x = np.ones((1, 16), np.float32)
    wide.receive(define((1, 16), ("small",)))
    for tag in range(1, 51):
        wide.receive(Command(tag=tag, call=1, tensors=1), tensors=(x.tobytes(),))
        wide.finish()
        frame, tensors = parse_frame(wide.frame(), pb.ServerFrame())
        assert [len(tensor) for tensor in tensors] == [64]
        assert len(frame.SerializeToString()) < 200
    assert reads == [(1, 16)] * 50
    # The runtime writes the large one to the same memory again and again.
    assert [slot._outputs._scratch[1].data.ctypes.data for slot in slots] == scratch


def test_a_large_output_is_copied_once_into_the_message(wide: Desk) -> None:
    x = np.ones((1, 16), np.float32)
    wide.receive(define((1, 16), ("large",), ("large",)), Command(tag=1, call=1, tensors=1), tensors=(x.tobytes(),))
    slots = [slot for loaded in wide.engine._models.values() for slot in loaded.slots]
    written = {slot._outputs._scratch[1].data.ctypes.data for slot in slots}
    wide.finish()
    (kept,) = wide.stream.tickets[1].own.values()
    assert kept.tensor is not None
    # What is kept and what is sent are the memory that the runtime has written to.
    assert address(kept.tensor.read()) in written
    (event,) = wide.take()
    assert event.sent[0] is kept.tensor  # type: ignore[union-attr]


async def test_only_what_is_asked_for_crosses_the_wire(tmp_path: Path) -> None:
    """Bytes counted between two sockets: 4 MiB are computed each time, some hundred bytes are sent."""
    x = np.ones((1, 16), np.float32)
    with Served([f"wide={models.wide(tmp_path)}"], tmp_path / "log") as served, Trickle(served.address) as proxy:
        async with hc.connect(proxy.address) as server, server.stream() as stream:
            first = await stream.submit("wide", {"x": x}, outputs=["small"], keep=["large"])
            await first
            up, down = proxy.up, proxy.down
            for _ in range(100):
                ticket = await stream.submit("wide", {"x": x}, outputs=["small"], keep=["large"])
                assert list(await ticket) == ["small"]
                ticket.release()
            assert proxy.down - down < 100 * 300
            assert proxy.up - up < 100 * 300
            down = proxy.down
            assert (await first.fetch("large", slice=(0, 1))).shape == (1, 1024)
            assert 4096 < proxy.down - down < 4096 + 400
