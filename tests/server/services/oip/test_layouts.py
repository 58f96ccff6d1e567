"""What is remembered of a request never changes what a later one is read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as pb
from headrace.server.services.oip import layouts
from headrace.server.services.oip.layouts import REMEMBERED, REMEMBERED_BYTES, Layouts
from headrace.server.services.oip.messages import Pieces, take_apart
from tests.server.services.oip.test_messages import requests

Seen = list[bytes]


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The messages whose fields were walked over."""
    messages: Seen = []

    def recorded(message: bytes) -> Pieces:
        messages.append(message)
        return take_apart(message)

    monkeypatch.setattr(layouts, "take_apart", recorded)
    return messages


def request(request_id: str, *raw: bytes, name: str = "model", **parameters: int) -> bytes:
    given = {key: pb.InferParameter(int64_param=value) for key, value in parameters.items()}
    return pb.ModelInferRequest(
        model_name=name, id=request_id, parameters=given, raw_input_contents=raw
    ).SerializeToString()


def read(pieces: Pieces) -> tuple[Any, ...]:
    error = None if pieces.error is None else pieces.error.message
    return pieces.described, pieces.id, pieces.parameters, [bytes(each) for each in pieces.raw], error


def test_other_ids_and_tensors_are_not_walked_over(walked: Seen) -> None:
    known = Layouts()
    first = request("17", b"abc", b"de", priority=3)
    assert read(known.take_apart(first)) == read(take_apart(first))
    for message in (request("18", b"xyz", b"de", priority=3), request("99", b"\0\0\0", b"\xff\xff", priority=3)):
        assert read(known.take_apart(message)) == read(take_apart(message))
    assert walked == [first]


OTHERS: list[Callable[[], bytes]] = [
    lambda: request("17", b"abc", b"de", name="other", priority=3),
    lambda: request("17", b"abc", b"de", priority=4),
    lambda: request("17", b"ab", b"cde", priority=3),
    lambda: request("1", b"abcd", b"de", priority=3),
    lambda: request("17", b"abc", b"def", priority=3),
    lambda: request("", b"abc", b"de", priority=3),
    lambda: request("17", b"abc", b"de", priority=3).replace(b"17", b"\xff\xfe"),
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_in_anything_else_is(walked: Seen, other: Callable[[], bytes]) -> None:
    known = Layouts()
    known.take_apart(request("17", b"abc", b"de", priority=3))
    message = other()
    assert read(known.take_apart(message)) == read(take_apart(message))
    assert walked[1:] == [message]


@given(requests, st.data())
def test_a_byte_that_differs(base: pb.ModelInferRequest, data: st.DataObject) -> None:
    known = Layouts()
    message = bytearray(base.SerializeToString())
    known.take_apart(bytes(message))
    if message:
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    assert read(known.take_apart(bytes(message))) == read(take_apart(bytes(message)))


@given(st.lists(requests, min_size=1, max_size=6))
def test_requests_of_many_clients(parts: list[pb.ModelInferRequest]) -> None:
    known = Layouts()
    for part in [*parts, *parts]:
        message = part.SerializeToString()
        assert read(known.take_apart(message)) == read(take_apart(message))


def test_what_is_remembered_is_bounded() -> None:
    known = Layouts()
    for size in range(2 * REMEMBERED):
        known.take_apart(request("1", bytes(size)))
    assert len(known._known) <= REMEMBERED
    known = Layouts()
    for size in [*range(REMEMBERED), 0]:
        known.take_apart(request("1", bytes(size), name="other" if size == 0 else "model"))
    assert len(known._known) == REMEMBERED
    known = Layouts()
    known.take_apart(request("1", b"abc", name="m" * REMEMBERED_BYTES))
    known.take_apart(request("1", name="without tensors"))
    assert not known._known


def test_tensors_are_not() -> None:
    """A layout that held on to a view would keep the whole message."""
    known = Layouts()
    known.take_apart(request("1", bytes(1000)))
    (layout,) = known._known.values()
    assert layout._pieces.raw == ()
    assert sum(len(same) for _, same in layout._same) < 100
