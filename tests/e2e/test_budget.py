"""The budget of memory of a real server: peers that take all they can, beside a client that must notice nothing."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import grpc
import numpy as np
import pytest

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.disturbances import retried_if_disturbed
from tests.e2e.flooding import Peers
from tests.e2e.serving import Serve, Served
from tests.e2e.stubs import Command, Event, StubStream
from tests.e2e.test_slow_readers import MIB, X, define

PEERS = int(os.environ.get("HEADRACE_PEERS", "10"))
"""Of each of two kinds."""
STAND_SECONDS = 90 + 8 * PEERS
"""When the peers have come to a stand: until then the buffers of their own libraries take answers."""
MEMORY = 512 * MIB
TRANSPORT_BYTES = 2 * PEERS * 2 * MIB
"""What gRPC may hold of messages that the server has not read: the look-ahead of each stream, and one message."""


def seconds(stream: StubStream, count: int) -> list[float]:
    """How long each of a number of small inferences takes, one after the other. Every answer is the right one."""
    taken: list[float] = []
    for tag in range(1, count + 1):
        began = perf_counter()
        stream.send(Command(tag=tag, call=1, tensors=2), tensors=[X.tobytes(), (tag * X).tobytes()])
        event, outputs = stream.receive()
        taken.append(perf_counter() - began)
        assert (event.kind, event.tag) == (Event.DONE, tag)
        assert (outputs["sum"] == 1 + tag).all()
    return taken


def status_of(served: Served) -> pb.ServerStatusResponse:
    with grpc.insecure_channel(served.address) as channel:
        return InferenceStub(channel).ServerStatus(pb.ServerStatusRequest(), timeout=30)


def used(status: pb.ServerStatusResponse) -> dict[str, int]:
    return {account.name: account.used_bytes for account in status.accounts}


@pytest.mark.timeout(300 + 3 * STAND_SECONDS)
@retried_if_disturbed
def test_peers_that_take_all_they_can_leave_enough_for_a_good_client(serve: Serve, tmp_path: Path) -> None:
    """Half of them ask for outputs of 4 MiB and read nothing, the others write inputs of 256 KiB without end."""
    paths = [f"wide={models.wide(tmp_path)}", f"am={models.add_multiply(tmp_path)}"]
    served = serve(*paths, f"--memory={MEMORY}", "--window=64", "--slots=2")
    lazy_first = pb.ClientFrame(
        commands=[
            Command(kind=Command.OPEN, open=pb.Open(max_message_bytes=64 * MIB)),
            define("wide", "x", outputs=("large",)),
        ]
    )
    infers = [Command(tag=tag, call=1, tensors=1) for tag in range(1, 21)]
    lazy = pb.ClientFrame(commands=infers, tensors=[X.tobytes()] * len(infers))
    refused = [Command(tag=1, call=77, tensors=1)] * 32
    writes = pb.ClientFrame(commands=refused, tensors=[bytes(8 << 10)] * len(refused))
    with ExitStack() as stack:
        good = stack.enter_context(StubStream(served.address))
        good.send(define("am", "x", "y", outputs=("sum",)))
        seconds(good, 200)
        alone = np.percentile(seconds(good, 1000), 99)
        before = served.resident_bytes()
        floods: list[Peers] = []
        for first, then, most in ((lazy_first, lazy, 3), (pb.ClientFrame(), writes, 10_000)):
            folder = tmp_path / f"floods-{most}"
            folder.mkdir(exist_ok=True)
            floods.append(Peers(served.address, PEERS, first, then, most, folder))
            stack.callback(floods[-1].close)
        peak, sent = 0, [0]
        during: list[float] = []
        end = perf_counter() + STAND_SECONDS
        while perf_counter() < end:
            sent, before_that = [count for flood in floods for count in flood.sent()], sent
            during += seconds(good, 50)
            peak = max(peak, served.resident_bytes() - before)
            if all(sent) and sent == before_that:
                break
        else:
            pytest.fail("the floods do not come to a stand")
        beside = np.percentile(seconds(good, 1000), 99)
        status = status_of(served)
        peak = max(peak, served.resident_bytes() - before)
        figures = ", ".join(
            [
                f"p99 {1e3 * alone:.2f} ms alone, {1e3 * beside:.2f} ms beside",
                f"{1e3 * np.percentile(during, 50):.2f} and at most {1e3 * max(during):.2f} ms meanwhile",
                f"peak {peak / MIB:.0f} MiB",
            ]
        )
        print(figures, used(status))
        assert status.streams == 2 * PEERS + 1
        assert status.memory.limit_bytes == MEMORY
        assert 0 < status.memory.used_bytes == sum(used(status).values()) <= MEMORY
        assert used(status)["unsent"] > 64 * MIB
        assert peak < MEMORY + TRANSPORT_BYTES
        # While they write, not in proportion to their number: in turn with a hundred it would wait for 60 ms.
        assert np.percentile(during, 50) < 0.02
        assert beside < 1.5 * alone + 0.01
    with StubStream(served.address) as other:
        other.send(define("am", "x", "y", outputs=("sum",)))
        for _ in range(100):
            seconds(other, 10)
            left = used(status_of(served))
            if left["unsent"] == left["queue"] == left["tickets"] == 0:
                break
        assert left["unsent"] == left["queue"] == left["tickets"] == 0


def test_an_output_whose_size_the_data_decide_fails_before_it_takes_the_memory(serve: Serve, tmp_path: Path) -> None:
    """2 GiB and more are asked for. The server goes on, and so does the model."""
    served = serve(f"ranging={models.ranging(tmp_path)}", f"--memory={64 * MIB}")
    number = pb.Inline(datatype=pb.INT64, shape=[])
    call = pb.Call(model="ranging", inputs=[pb.Input(name="n", inline=number)], outputs=["y"])
    with StubStream(served.address) as stream:
        stream.send(Command(kind=Command.DEFINE, call=1, define=call))
        before = served.resident_bytes()
        for tag, exponent in enumerate((29, 4, 30, 28, 4), 1):
            frame = Command(tag=tag, call=1, tensors=1)
            stream.send(frame, tensors=[np.int64(1 << exponent).tobytes()])
            event, _ = stream.receive()
            while event.kind == Event.FAILED and exponent == 4:  # until the slot is restored
                assert event.failure.retryable
                stream.send(frame, tensors=[np.int64(1 << exponent).tobytes()])
                event, _ = stream.receive()
            if exponent > 4:
                assert event.kind == Event.FAILED
                assert (event.failure.code, event.failure.retryable) == (pb.RESOURCE_EXHAUSTED, True)
                assert "too little memory left for this inference of model 'ranging'" in event.failure.message
            assert served.resident_bytes() - before < 256 * MIB
        assert event.kind == Event.DONE
    assert served.process.poll() is None
