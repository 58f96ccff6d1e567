"""Clients that submit and do not read: the memory of the server stays bounded, and other streams are not affected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.flooding import Flood
from tests.e2e.serving import Serve, Served
from tests.e2e.stubs import Command, Event, StubStream
from tests.e2e.trickle import Trickle

X = np.ones((1, 16), np.float32)
INLINE = pb.Inline(datatype=pb.FP32, shape=[1, 16])
MIB = 1 << 20


def define(model: str, *inputs: str, outputs: tuple[str, ...]) -> pb.Command:
    call = pb.Call(model=model, inputs=[pb.Input(name=name, inline=INLINE) for name in inputs], outputs=outputs)
    return Command(kind=Command.DEFINE, call=1, define=call)


def infers(stream: StubStream, count: int) -> None:
    """Another client's work, which goes on as ever."""
    stream.send(define("am", "x", "y", outputs=("sum",)))
    for tag in range(1, count + 1):
        stream.send(Command(tag=tag, call=1, tensors=2), tensors=[X.tobytes(), (tag * X).tobytes()])
        event, outputs = stream.receive()
        assert (event.kind, event.tag) == (Event.DONE, tag)
        assert outputs["sum"][0, 0] == 1 + tag


def stalled(flood: Flood, work: Callable[[], None]) -> None:
    """Return when the flood has come to a stand: no further frame comes while another client is served."""
    for _ in range(100):
        before = flood.sent
        work()
        if flood.sent == before:
            return
    pytest.fail("the flood does not stop")


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    wide, am = models.wide(tmp_path), models.add_multiply(tmp_path)
    return serve(f"wide={wide}", f"am={am}", "--unsent-bytes=16MiB", "--window=64", "--slots=2")


def test_refusals_that_are_not_read_do_not_pile_up(served: Served) -> None:
    """A reader that always reads, with a peer that never does, would fill the memory with answers."""
    with StubStream(served.address) as other:
        infers(other, 200)
        before = served.resident_bytes()
        bad = pb.ClientFrame(commands=[Command(tag=1, call=77)] * 1000)
        flood = Flood(served.address, pb.ClientFrame(), bad, most=20_000)
        stalled(flood, lambda: infers(other, 200))
        assert 0 < flood.sent < 2000
        assert served.resident_bytes() - before < 48 * MIB
        flood.close()
        infers(other, 200)


def test_large_outputs_that_are_not_read_do_not_pile_up(served: Served) -> None:
    """60 tickets of 4 MiB each: while more than the budget is unsent, nothing starts but the oldest."""
    open_ = Command(kind=Command.OPEN, open=pb.Open(max_message_bytes=64 * MIB))
    with StubStream(served.address) as other, Trickle(served.address, free=4096) as slow:
        infers(other, 200)
        before = served.resident_bytes()
        with StubStream(slow.address) as lazy:
            lazy.send(open_, define("wide", "x", outputs=("large",)))
            for tag in range(1, 61):
                lazy.send(Command(tag=tag, call=1, tensors=1), tensors=[X.tobytes()])
            wide = settled(served, lambda: infers(other, 200))
            assert wide.tickets_queued > 40
            assert wide.slots_free == 2
            # Unsent, a frame in the hands of the transport, and scratch tensors.
            assert served.resident_bytes() - before < 16 * MIB + 4 * 4 * MIB + 24 * MIB
        infers(other, 200)


def settled(served: Served, work: Callable[[], None]) -> pb.ModelStatus:
    """The status of the model `wide`, once it stays the same while a ticket is stuck in it."""
    with grpc.insecure_channel(served.address) as channel:
        seen = pb.ModelStatus()
        for _ in range(100):
            work()
            status = InferenceStub(channel).ServerStatus(pb.ServerStatusRequest(), timeout=30)
            (wide,) = [model for model in status.models if model.name == "wide"]
            if status.tickets_in_flight >= 40 and wide == seen:
                return wide
            seen = wide
    pytest.fail(f"nothing settles: {seen}")
