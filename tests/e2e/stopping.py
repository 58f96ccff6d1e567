"""What tests of the end of a server share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.v1 import inference_pb2 as pb
from tests.e2e.serving import Served
from tests.e2e.stubs import Command, StubStream
from tests.stopwatch import Stopwatch
from tests.waiting import until

ONE = np.ones(1, np.float32)
LONG = "--grace=60"
STOPPING = grpc.StatusCode.UNAVAILABLE, "the server is stopping"
AT_ONCE = 2.0
"""Seconds. It takes a tenth of one, half of one with a silent connection; the machine may be busy."""


@contextmanager
def ends_within(seconds: float, served: Served, *codes: int) -> Iterator[None]:
    """What is done inside has the server end so soon, with one of these exit codes."""
    with Stopwatch() as watch:
        yield
        assert served.process.wait(30) in codes
        assert watch.ran() < seconds
    assert "Traceback" not in served.log


def status_of(call: Any) -> tuple[grpc.StatusCode, str | None]:
    """How a call ends that says nothing more."""
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    return ended.value.code(), ended.value.details()


def processor_seconds(served: Served) -> float:
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_it_computes(served: Served, before: float) -> None:
    """The run takes 2 seconds of the processor; most of it is still to come."""
    until(lambda: processor_seconds(served) >= before + 0.3)


def submit(stream: StubStream, model: str) -> None:
    call = pb.Call(model=model, inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))])
    stream.send(
        Command(kind=Command.DEFINE, call=1, define=call), Command(tag=1, call=1, tensors=1), tensors=[ONE.tobytes()]
    )
