"""Fields are found where protobuf finds them."""

from __future__ import annotations

import pytest

from headrace.v1 import inference_pb2 as pb
from headrace.wire.fields import fields, has_more_fields

MESSAGE = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x02hi"


def test_every_kind_of_field_is_found() -> None:
    found = [(key >> 3, MESSAGE[start:stop]) for key, start, stop in fields(MESSAGE, 0, len(MESSAGE))]
    assert found == [(1, b"\x96\x01"), (2, bytes(8)), (3, bytes(4)), (4, b"hi")]


def test_the_fields_of_a_message_inside_are_found() -> None:
    message = pb.ClientFrame(commands=[pb.Command(tag=5, call=3)]).SerializeToString()
    ((_, start, stop),) = fields(message, 0, len(message))
    assert [key >> 3 for key, _, _ in fields(message, start, stop)] == [2, 3]


@pytest.mark.parametrize("cut", range(1, len(MESSAGE)))
def test_a_message_that_is_cut_off_is_an_error_or_ends_between_fields(cut: int) -> None:
    ends = [stop for _, _, stop in fields(MESSAGE, 0, len(MESSAGE))]
    if cut in ends:
        assert [*fields(MESSAGE[:cut], 0, cut)]
    else:
        with pytest.raises(IndexError):
            list(fields(MESSAGE[:cut], 0, cut))


@pytest.mark.parametrize("group", [b"\x0b\x0c", b"\x0c", b"\x0e\0", b"\x0f\0"])
def test_groups_and_unknown_wire_types_are_errors(group: bytes) -> None:
    with pytest.raises(IndexError):
        list(fields(group, 0, len(group)))


def test_fields_are_counted_up_to_a_limit() -> None:
    assert not has_more_fields(MESSAGE, 4)
    assert has_more_fields(MESSAGE, 3)
    assert has_more_fields(MESSAGE + b"\x0b", 3), "what follows is not looked at"
