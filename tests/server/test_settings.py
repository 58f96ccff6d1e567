"""Options: how they are read and checked, and what the core gets of them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from cyclopts import Token

from headrace.server.core.limits import Limits
from headrace.server.process_memory import available_bytes
from headrace.server.processors import available_processors
from headrace.server.settings import Settings, check_properties, parse_rows


def test_the_core_enforces_the_options_of_the_same_names() -> None:
    assert Settings(share="on").limits().processors == available_processors()
    processors = 0
    assert Settings(coalesce="off", memory=5).limits() == Limits(coalesce=False, memory=5, processors=processors)
    assert Settings().limits() == Limits(coalesce=True, memory=available_bytes() // 2, processors=processors)
    names = {field.name for field in fields(Limits)} - {"coalesce", "processors"}
    others = {name: getattr(Limits(), name) + 1 for name in names}
    assert replace(Settings(coalesce="off"), **others).limits() == Limits(**others, processors=processors)


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
