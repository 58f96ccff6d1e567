"""Strategies of Hypothesis for messages: any of the fields that a .proto has, with values that may mean something."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.costs.mutations import FLOATS, INTEGERS, TEXTS, within

DEEPEST, MOST_FIELDS, MOST_ITEMS = 5, 4, 3
_TEXTS = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))
_BYTES = st.one_of(st.sampled_from([bytes(4), bytes(64), b"\2\0\0\0ab\1\0\0\0c"]), st.binary(max_size=70))
_INTEGERS = st.one_of(st.integers(0, 8), st.sampled_from(INTEGERS))
_FLOATS = st.sampled_from(FLOATS)


@st.composite
def made(draw: st.DrawFn, kind: type[Message]) -> Message:
    message = kind()
    _fill(draw, message, DEEPEST)
    return message


def _fill(draw: st.DrawFn, target: Message, depth: int) -> None:
    known = [field for field in target.DESCRIPTOR.fields if depth or field.message_type is None]
    if not known:
        return
    chosen = draw(st.lists(st.sampled_from(known), max_size=MOST_FIELDS, unique_by=lambda field: field.number))
    for field in chosen:
        value = getattr(target, field.name)
        if field.message_type is None:
            if field.is_repeated:
                value.extend(draw(st.lists(_values(field), max_size=MOST_ITEMS)))
            else:
                setattr(target, field.name, draw(_values(field)))
        elif field.message_type.GetOptions().map_entry:
            _fill_map(draw, field, value, depth - 1)
        elif field.is_repeated:
            for _ in range(draw(st.integers(1, MOST_ITEMS))):
                _fill(draw, value.add(), depth - 1)
        else:
            value.SetInParent()
            _fill(draw, value, depth - 1)


def _fill_map(draw: st.DrawFn, field: Any, value: Any, depth: int) -> None:
    assert field.message_type is not None
    inner = field.message_type.fields_by_name["value"]
    for key in draw(st.lists(_TEXTS, max_size=2)):
        if inner.message_type is None:
            value[key] = draw(_values(inner))
        else:
            _fill(draw, value[key], depth)


def _values(field: Any) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _BYTES
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return _FLOATS
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    return _INTEGERS.map(lambda value: within(field, value))
