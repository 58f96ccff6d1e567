"""Items of Infers that say which trace they belong to."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.protocol.infer_encoder import with_trace_parent
from headrace.v1 import inference_pb2 as pb
from headrace.wire.frames import join_frame

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("sources", [0, 1, 6, 7, 500])
@pytest.mark.parametrize("size", [0, 4, 1 << 20])
def test_only_the_context_is_added(sources: int, size: int) -> None:
    """Whatever the length of the command, whose first byte or bytes change with it."""
    command = pb.Command(tag=7, call=3, tensors=1, timeout_us=5, sources=range(1, sources + 1))
    data = np.arange(size, dtype=np.uint8).tobytes()
    item = join_frame(pb.ClientFrame(commands=[command]).SerializeToString(), [data])
    frame = pb.ClientFrame.FromString(with_trace_parent(item, PARENT))
    command.traceparent = PARENT
    assert list(frame.commands) == [command]
    assert list(frame.tensors) == [data]


def test_items_are_joined_to_a_frame() -> None:
    items = [pb.ClientFrame(commands=[pb.Command(tag=tag)]).SerializeToString() for tag in (1, 2, 3)]
    frame = pb.ClientFrame.FromString(items[0] + with_trace_parent(items[1], PARENT) + items[2])
    assert [(command.tag, command.traceparent) for command in frame.commands] == [(1, ""), (2, PARENT), (3, "")]
