"""Where a frame closes: at a number of bytes and at a number of items, to the byte and to the item."""

from __future__ import annotations

import pytest

from headrace.server.core.accounts import Accounts
from headrace.server.core.events import FAILED_OVERHEAD_BYTES, Failed
from headrace.server.core.limits import Limits
from headrace.server.core.state import Stream
from headrace.wire.errors import Internal
from headrace.wire.frames import FRAME_BYTES, frame_items

SMALL_MESSAGE_BYTES = 64 << 10


def event(tag: int, size: int) -> Failed:
    """An event that takes `size` bytes of a frame."""
    return Failed(tag, Internal(""), admitted=True, nbytes=size - FAILED_OVERHEAD_BYTES)


def stream_with(*sizes: int, max_message_bytes: int = 4 << 20, window: int = 1024) -> Stream:
    """A stream whose outbox has events of these sizes, with the tags 1, 2, 3..."""
    stream = Stream(window, Accounts(Limits()).shares(single=False), unsent_limit=1 << 30)
    stream.max_message_bytes = max_message_bytes
    stream.outbox.extend(event(tag, size) for tag, size in enumerate(sizes, 1))
    for each in stream.outbox:
        stream.add_unsent(each)
    return stream


def frames(stream: Stream) -> list[list[int]]:
    """The tags of each frame, until nothing is left."""
    taken: list[list[int]] = []
    while events := stream.take():
        taken.append([each.tag for each in events])
    return taken


@pytest.mark.parametrize("limit", [FRAME_BYTES, SMALL_MESSAGE_BYTES])
def test_events_that_fill_a_frame_to_the_byte_travel_together(limit: int) -> None:
    assert frames(stream_with(1000, limit - 2000, 1000, 1000, max_message_bytes=limit)) == [[1, 2, 3], [4]]


@pytest.mark.parametrize("limit", [FRAME_BYTES, SMALL_MESSAGE_BYTES])
def test_an_event_that_is_one_byte_too_large_for_a_frame_begins_the_next(limit: int) -> None:
    assert frames(stream_with(1000, limit - 2000, 1001, 1000, max_message_bytes=limit)) == [[1, 2], [3, 4]]


def test_a_frame_never_exceeds_the_usual_size_however_large_the_messages_of_a_client_may_be() -> None:
    half = FRAME_BYTES // 2
    assert frames(stream_with(half, half, 100, max_message_bytes=FRAME_BYTES * 8)) == [[1, 2], [3]]


def test_an_event_larger_than_a_frame_travels_alone() -> None:
    assert frames(stream_with(100, FRAME_BYTES + 1, 100, 100)) == [[1], [2], [3, 4]]


@pytest.mark.parametrize(("window", "items"), [(8, 16), (1024, 128), (256, 32)])
def test_a_frame_closes_at_its_number_of_items(window: int, items: int) -> None:
    assert frame_items(window) == items
    assert [len(tags) for tags in frames(stream_with(*[100] * items, window=window))] == [items]
    assert [len(tags) for tags in frames(stream_with(*[100] * (items + 1), window=window))] == [items, 1]


def test_the_bytes_of_a_frame_are_unsent_until_it_is_flushed() -> None:
    stream = stream_with(FRAME_BYTES, 1000)
    of_both = stream.unsent_bytes
    (first,) = stream.take()
    assert stream.unsent_bytes == of_both
    stream.flushed()
    assert stream.unsent_bytes == of_both - first.nbytes
