"""A client made of the generated stubs alone: what another language would write. One stream, synchronous."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub

Command, Event = pb.Command, pb.Event
Array = npt.NDArray[Any]
DTYPES = {pb.FP32: np.float32, pb.INT64: np.int64}


class StubStream:
    """`send` commands, `receive` events in order; `outputs` decodes those of a Done or Fetched."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.frames: queue.SimpleQueue[pb.ClientFrame | None] = queue.SimpleQueue()
        self.replies = InferenceStub(self.channel).Stream(iter(self.frames.get, None))
        self.layouts: dict[int, pb.Layout] = {0: pb.Layout()}
        self.events = self._events()
        self.hello = next(self.events)[0].hello

    def send(self, *commands: pb.Command, tensors: Sequence[bytes] = ()) -> None:
        self.frames.put(pb.ClientFrame(commands=commands, tensors=tensors))

    def receive(self) -> tuple[pb.Event, dict[str, Array]]:
        return next(self.events)

    def _events(self) -> Iterator[tuple[pb.Event, dict[str, Array]]]:
        for frame in self.replies:
            tensors = iter(frame.tensors)
            for event in frame.events:
                if event.kind == Event.LAYOUT:
                    self.layouts[event.layout] = event.define
                else:
                    yield (
                        event,
                        {
                            each.name: np.frombuffer(next(tensors), DTYPES[each.datatype]).reshape(each.shape)
                            for each in self.layouts[event.layout].sent
                        },
                    )

    def ends_with(self) -> grpc.StatusCode:
        """How the stream ends, after nothing more."""
        with suppress(grpc.RpcError):
            assert list(self.events) == []
        code: grpc.StatusCode = self.replies.code()
        return code

    def half_close(self) -> None:
        self.frames.put(None)

    def __enter__(self) -> StubStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.half_close()
        self.replies.cancel()
        self.channel.close()
