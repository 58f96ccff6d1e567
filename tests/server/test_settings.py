"""Options: how they are read and checked, and what the core gets of them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from cyclopts import Token

from headrace.server.core.limits import Limits
from headrace.server.process_memory import available_bytes
from headrace.server.processors import available_processors
from headrace.server.settings import Settings, check_properties, format_size, parse_rows, parse_size


def test_the_core_enforces_the_options_of_the_same_names() -> None:
    assert Settings(share="on").limits().processors == available_processors()
    processors = 0
    assert Settings(coalesce="off", memory=5).limits() == Limits(coalesce=False, memory=5, processors=processors)
    assert Settings().limits() == Limits(coalesce=True, memory=available_bytes() // 2, processors=processors)
    names = {field.name for field in fields(Limits)} - {"coalesce", "processors"}
    others = {name: getattr(Limits(), name) + 1 for name in names}
    assert replace(Settings(coalesce="off"), **others).limits() == Limits(**others, processors=processors)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64MiB", 64 << 20), ("2 kb", 2000), ("3B", 3), ("1GiB", 1 << 30)]
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, size: int) -> None:
    assert parse_size(int, (Token(value=text),)) == size
    assert parse_size(int, (Token(value=format_size(size)),)) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5MiB", "3XB", "1 2"])
def test_anything_else_is_not_a_size(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not a size: give a number of bytes, or a number with a unit, such as 64MiB"
    ):
        parse_size(int, (Token(value=text),))


def test_a_batch_is_automatic_or_off_or_has_several_rows() -> None:
    assert [parse_rows(int, (Token(value=text),)) for text in ("auto", "off", "2", "64")] == [None, 1, 2, 64]
    for text in ("1", "65", "-2", "many"):
        with pytest.raises(ValueError, match="is neither auto nor off nor a number from 2 to 64"):
            parse_rows(int, (Token(value=text),))


def test_a_property_has_a_key_and_a_value() -> None:
    check_properties(str, ("A=1", "B=", "C=d=e"))
    assert Settings(property=("A=1", "B=", "C=d=e")).compilation().properties == {"A": "1", "B": "", "C": "d=e"}
    for text in ("NUM_STREAMS", "=1", ""):
        with pytest.raises(ValueError, match="is not of the form KEY=VALUE"):
            check_properties(str, (text,))
