"""Frames: a scan finds what protobuf would have parsed, large tensors are views, corrupt bytes are refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.v1 import inference_pb2 as pb
from headrace.wire import frames
from headrace.wire.errors import InvalidArgument
from headrace.wire.frames import (
    FIRST_FIELDS,
    LARGE_MESSAGE,
    LARGE_TENSOR,
    MAX_ITEMS,
    MAX_OVERHEAD,
    MAX_TENSORS,
    SCAN_FROM,
    frame_items,
    join_frame,
    parse_frame,
    tensor_header,
)
from tests.own_time import takes_at_most

EMPTY_COMMAND = b"\x0a\x00"
EMPTY_TENSOR = b"\x12\x00"
tags = st.integers(0, 2**64 - 1)
names = st.text(max_size=8)
commands = st.builds(
    pb.Command,
    kind=st.integers(0, 9),
    tag=tags,
    call=st.integers(0, 2**32 - 1),
    tensors=st.integers(0, 9),
    timeout_us=tags,
    priority=st.integers(0, 20),
    sources=st.lists(tags, max_size=4),
    define=st.none() | st.builds(pb.Call, model=names, outputs=st.lists(names, max_size=3), all_outputs=st.booleans()),
    fetch=st.none() | st.builds(pb.Fetch, source=tags, output=names),
    release=st.none() | st.builds(pb.Release, outputs=st.lists(names, max_size=3)),
)
client_frames = st.builds(
    pb.ClientFrame, commands=st.lists(commands, max_size=6), tensors=st.lists(st.binary(max_size=300), max_size=6)
)


@contextmanager
def scanned() -> Iterator[None]:
    """Treat every message as a large one."""
    with patch.object(frames, "SCAN_FROM", -1):
        yield


def parse(message: bytes) -> tuple[pb.ClientFrame, Sequence[bytes]]:
    frame, tensors = parse_frame(message, pb.ClientFrame())
    return frame, [bytes(tensor) for tensor in tensors]


class TestAsProtobufParses:
    @given(client_frames)
    def test_a_small_message_is_parsed(self, frame: pb.ClientFrame) -> None:
        message = frame.SerializeToString()
        parsed, tensors = parse(message)
        assert parsed.commands == frame.commands
        assert tensors == [*frame.tensors]

    @given(client_frames)
    def test_a_large_message_is_parsed(self, frame: pb.ClientFrame) -> None:
        message = frame.SerializeToString()
        with scanned():
            parsed, tensors = parse(message)
        assert parsed.commands == frame.commands
        assert tensors == [*frame.tensors]

    @given(client_frames, st.randoms(use_true_random=False))
    def test_fields_may_come_in_any_order(self, frame: pb.ClientFrame, random: object) -> None:
        parts = [pb.ClientFrame(commands=[command]).SerializeToString() for command in frame.commands]
        tensors = [tensor_header(len(tensor)) + tensor for tensor in frame.tensors]
        merged: list[bytes] = []
        while parts or tensors:
            side = parts if not tensors or (parts and random.random() < 0.5) else tensors  # type: ignore[attr-defined]
            merged.append(side.pop(0))
        with scanned():
            parsed, found = parse(b"".join(merged))
        assert parsed.commands == frame.commands
        assert found == [*frame.tensors]

    @given(st.lists(st.builds(pb.Event, kind=st.integers(0, 9), tag=tags, layout=st.integers(0, 99)), max_size=5))
    def test_a_frame_of_the_server_is_parsed(self, events: list[pb.Event]) -> None:
        frame = pb.ServerFrame(events=events, tensors=[b"abc", b""])
        with scanned():
            parsed, tensors = parse_frame(frame.SerializeToString(), pb.ServerFrame())
        assert parsed.events == frame.events
        assert [*map(bytes, tensors)] == [b"abc", b""]

    @given(client_frames, st.lists(st.binary(max_size=40_000), max_size=3))
    @settings(max_examples=50)
    def test_a_joined_frame_is_what_protobuf_writes(self, frame: pb.ClientFrame, more: list[bytes]) -> None:
        tensors = [*frame.tensors, *more]
        items = pb.ClientFrame(commands=frame.commands).SerializeToString()
        whole = pb.ClientFrame(commands=frame.commands, tensors=tensors).SerializeToString()
        assert join_frame(items, tensors) == whole
        assert join_frame(items, [memoryview(tensor) for tensor in tensors]) == whole
        assert join_frame(b"", []) == b""

    @pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28, 2**32])
    def test_the_header_of_a_tensor_gives_its_size(self, size: int) -> None:
        header = tensor_header(size)
        assert header[0] == 0x12
        value = sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(header[1:]))
        assert value == size
        assert [byte >> 7 for byte in header[1:]] == [1] * (len(header) - 2) + [0]


class TestUnknownFields:
    FIELDS = (
        b"\x48\x96\x01",  # 9: a varint
        b"\x49" + bytes(8),  # 9: 64 bits
        b"\x4d" + bytes(4),  # 9: 32 bits
        b"\x4a\x03abc",  # 9: bytes
        b"\x1a\x02\x08\x01",  # 3, which is reserved
        b"\x10\x05",  # 2, which is bytes, as a varint
        b"\xf8\xff\xff\xff\x0f\x01",  # the largest number of a field
    )

    @pytest.mark.parametrize("size", [-1, SCAN_FROM])
    @pytest.mark.parametrize("field", FIELDS)
    def test_unknown_fields_are_tolerated(self, field: bytes, size: int) -> None:
        tag = pb.ClientFrame(commands=[pb.Command(tag=5)]).SerializeToString()
        message = field + tag + field + b"\x12\x01x" + field
        with patch.object(frames, "SCAN_FROM", size):
            parsed, tensors = parse(message)
        assert [command.tag for command in parsed.commands] == [5]
        assert tensors == [b"x"]

    def test_an_unknown_field_inside_a_command_is_tolerated(self) -> None:
        command = pb.Command(tag=5).SerializeToString() + b"\xfa\x01\x02hi"
        message = b"\x0a" + bytes([len(command)]) + command
        for size in (-1, SCAN_FROM):
            with patch.object(frames, "SCAN_FROM", size):
                parsed, _ = parse(message)
            assert [each.tag for each in parsed.commands] == [5]


class TestLarge:
    def test_tensors_are_views_and_not_copies(self) -> None:
        big = bytes(range(256)) * 4096
        message = join_frame(pb.ClientFrame(commands=[pb.Command(tag=1)]).SerializeToString(), [big, b"small"])
        frame, tensors = parse_frame(message, pb.ClientFrame())
        assert [command.tag for command in frame.commands] == [1]
        assert not frame.tensors
        for tensor, expected in zip(tensors, (big, b"small"), strict=True):
            assert isinstance(tensor, memoryview)
            assert tensor.obj is message
            assert tensor.readonly
            assert (tensor.format, tensor.ndim) == ("B", 1)
            assert tensor == expected

    @pytest.mark.parametrize(
        ("sizes", "kind"),
        [
            ([LARGE_MESSAGE], memoryview),
            ([LARGE_TENSOR, LARGE_TENSOR], memoryview),
            ([LARGE_TENSOR], bytes),
            ([LARGE_TENSOR - 1] * 9, bytes),
            ([LARGE_TENSOR - 1] * 17, memoryview),
        ],
        ids=["one", "two", "a small message", "small tensors", "small tensors of a large message"],
    )
    def test_tensors_are_views_where_they_are_large_or_the_message_is(self, sizes: list[int], kind: type) -> None:
        data = [bytes([number]) * size for number, size in enumerate(sizes)]
        items = pb.ClientFrame(commands=[pb.Command(tag=tag) for tag in range(1, FIRST_FIELDS)]).SerializeToString()
        frame, tensors = parse_frame(join_frame(items, data), pb.ClientFrame())
        assert [command.tag for command in frame.commands] == [*range(1, FIRST_FIELDS)]
        assert {type(tensor) for tensor in tensors} == {kind}
        assert [*map(bytes, tensors)] == data

    @pytest.mark.parametrize("commands", [1, 2, 3, 4, 5])
    def test_a_few_large_commands_without_a_tensor_are_parsed(self, commands: int) -> None:
        """Fewer fields than are looked at to see whether one of them is a large tensor."""
        slices = pb.SourceSlices(slices=[pb.Slice(stop=1)] * 4000)
        frame = pb.ClientFrame(commands=[pb.Command(tag=tag + 1, slices=[slices] * 3) for tag in range(commands)])
        message = frame.SerializeToString()
        assert LARGE_MESSAGE < len(message) < SCAN_FROM
        parsed, tensors = parse_frame(message, pb.ClientFrame())
        assert (parsed, tensors) == (frame, [])

    def test_a_large_tensor_that_comes_late_is_parsed(self) -> None:
        items = pb.ClientFrame(commands=[pb.Command(tag=tag) for tag in range(FIRST_FIELDS)]).SerializeToString()
        _, tensors = parse_frame(join_frame(items, [bytes(LARGE_MESSAGE)]), pb.ClientFrame())
        assert [(type(tensor), len(tensor)) for tensor in tensors] == [(bytes, LARGE_MESSAGE)]


class TestBounds:
    def quickly(self, message: bytes) -> str:
        with takes_at_most(0.25), pytest.raises(InvalidArgument) as raised:
            parse_frame(message, pb.ClientFrame())
        return raised.value.message

    def test_millions_of_empty_commands_are_refused(self) -> None:
        assert self.quickly(EMPTY_COMMAND * (4 << 20)) == f"a frame holds more than {MAX_ITEMS} commands"

    def test_millions_of_empty_tensors_are_refused(self) -> None:
        message = EMPTY_TENSOR * (4 << 20)
        assert self.quickly(message) == f"a frame holds more than {MAX_TENSORS} tensors"

    def test_too_many_empty_tensors_in_a_small_message_are_refused(self) -> None:
        message = EMPTY_TENSOR * (MAX_TENSORS + 1)
        assert len(message) < SCAN_FROM
        assert f"{MAX_TENSORS + 1} tensors" in self.quickly(message)
        assert len(parse(EMPTY_TENSOR * MAX_TENSORS)[1]) == MAX_TENSORS

    def test_one_command_of_megabytes_is_refused(self) -> None:
        call = pb.Call(model="m" * (8 << 20))
        message = pb.ClientFrame(commands=[pb.Command(define=call)]).SerializeToString()
        assert self.quickly(message) == f"a frame holds more than {MAX_OVERHEAD} bytes besides its tensors"

    def test_megabytes_of_unknown_fields_are_refused(self) -> None:
        message = (b"\x4a" + tensor_header(1 << 20)[1:] + bytes(1 << 20)) * 8
        assert "besides its tensors" in self.quickly(message)

    def test_a_frame_exactly_at_its_limits_is_parsed(self) -> None:
        with scanned():
            parsed, tensors = parse(EMPTY_COMMAND * MAX_ITEMS + EMPTY_TENSOR * MAX_TENSORS)
        assert len(parsed.commands) == MAX_ITEMS
        assert len(tensors) == MAX_TENSORS
        name = "m" * (MAX_OVERHEAD - 100)
        message = pb.ClientFrame(commands=[pb.Command(define=pb.Call(model=name))]).SerializeToString()
        parsed, tensors = parse(message + tensor_header(5 << 20) + bytes(5 << 20))
        assert parsed.commands[0].define.model == name
        assert [*map(len, tensors)] == [5 << 20]


class TestCorrupt:
    """Corrupt bytes raise InvalidArgument and nothing else."""

    def check(self, message: bytes) -> None:
        for size in (-1, SCAN_FROM):
            with patch.object(frames, "SCAN_FROM", size):
                try:
                    frame, tensors = parse_frame(message, pb.ClientFrame())
                except InvalidArgument:
                    continue
                assert len(frame.commands) <= len(message)
                assert sum(map(len, tensors)) <= len(message)

    @given(st.binary(max_size=200))
    @example(b"\x0b")
    @example(b"\x12" + b"\xff" * 9 + b"\x01")
    @example(b"\x12" + b"\xff" * 20)
    @example(b"\xff" * 20)
    @example(b"\x0a\x02\xff\xff")
    @example(b"\x0a\x04\x42\x02\x0a\xff")  # a call whose model is not valid UTF-8
    @settings(max_examples=500)
    def test_any_bytes_parse_or_are_refused(self, message: bytes) -> None:
        self.check(message)

    @given(client_frames, st.data())
    @settings(max_examples=300)
    def test_a_frame_with_a_changed_byte_parses_or_is_refused(self, frame: pb.ClientFrame, data: st.DataObject) -> None:
        message = bytearray(frame.SerializeToString())
        if message:
            at = data.draw(st.integers(0, len(message) - 1))
            message[at] = data.draw(st.integers(0, 255))
        self.check(bytes(message))

    @given(client_frames, st.integers(1, 50))
    @settings(max_examples=200)
    def test_a_truncated_frame_parses_or_is_refused(self, frame: pb.ClientFrame, cut: int) -> None:
        self.check(frame.SerializeToString()[:-cut])

    @pytest.mark.parametrize(
        "message",
        [
            b"\x0a",
            b"\x0a\x05abc",
            b"\x12\x05abc",
            b"\x12\x80",
            b"\x12" + b"\x80" * 11,
            b"\x49\x00",
            b"\x4d\x00",
            b"\x48",
            b"\x0f",
            b"\x0e",
            b"\x02\x00",
            b"\x0a\x02\x08",
            b"\x0a\x03\x42\x01\x0a",
        ],
    )
    def test_a_malformed_message_is_not_a_frame(self, message: bytes) -> None:
        for size in (-1, SCAN_FROM):
            with patch.object(frames, "SCAN_FROM", size), pytest.raises(InvalidArgument) as raised:
                parse_frame(message, pb.ClientFrame())
            assert raised.value.message == f"a message of {len(message)} bytes is not a frame"

    @given(st.binary(max_size=60))
    @settings(max_examples=2000)
    def test_small_and_large_messages_are_read_alike(self, message: bytes) -> None:
        """If both can be read: protobuf sometimes refuses small field numbers written in several bytes."""
        read: list[tuple[list[pb.Command], list[bytes]] | None] = []
        for size in (-1, SCAN_FROM):
            with patch.object(frames, "SCAN_FROM", size):
                try:
                    frame, tensors = parse(message)
                except InvalidArgument:
                    read.append(None)
                else:
                    read.append(([*frame.commands], [*tensors]))
        if None not in read:
            assert read[0] == read[1]


@pytest.mark.parametrize(("window", "items"), [(1, 16), (16, 16), (136, 17), (1024, 128), (1 << 20, 128)])
def test_a_frame_closes_at_an_eighth_of_the_window(window: int, items: int) -> None:
    assert frame_items(window) == items
