"""Errors: the contract's codes, the same class on both sides, and quoted names that stay short."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.v1 import inference_pb2 as pb
from headrace.wire import errors
from headrace.wire.errors import Code, HeadraceError, Internal, ResourceExhausted, Unavailable, quote, rebuild

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, HeadraceError) and each is not HeadraceError
]


def test_the_codes_equal_those_of_the_contract() -> None:
    assert {code.name: int(code) for code in Code} == dict(pb.Code.items())


def test_each_code_but_ok_has_a_class_of_its_name() -> None:
    names = {each.code: each.__name__.upper() for each in CLASSES}
    assert names == {code: code.name.replace("_", "") for code in Code if code is not Code.OK}
    for each in CLASSES:
        assert f"{each.__name__} " in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("retryable", [True, False])
def test_the_other_side_rebuilds_the_same_error(kind: type[HeadraceError], retryable: bool) -> None:
    error = kind("what is wrong", retryable=retryable)
    rebuilt = rebuild(int(error.code), error.message, error.retryable)
    assert type(rebuilt) is kind
    assert (rebuilt.code, rebuilt.message, rebuilt.retryable) == (kind.code, "what is wrong", retryable)
    assert str(rebuilt) == "what is wrong"


def test_exhausted_and_unavailable_are_retryable_by_default() -> None:
    assert {each for each in CLASSES if each("").retryable} == {ResourceExhausted, Unavailable}
    assert not ResourceExhausted("", retryable=False).retryable
    assert ResourceExhausted("").retryable


@pytest.mark.parametrize("code", [0, 2, 6, 10, 11, 15, 99, -1])
def test_an_unknown_code_becomes_internal(code: int) -> None:
    error = rebuild(code, "hm", False)
    assert type(error) is Internal
    assert error.message == "hm"


class TestQuote:
    def test_a_short_name_is_quoted_whole(self) -> None:
        assert quote("name") == "'name'"
        assert quote(7) == "7"

    @given(st.text() | st.text(min_size=70, max_size=90), st.integers(10, 80))
    def test_a_quoted_name_is_short_printable_and_encodable(self, name: str, most: int) -> None:
        text = quote(name, most)
        assert len(text) <= most
        assert text.isprintable()
        assert text.encode().decode() == text
        assert text[0] == text[-1]
        assert text[0] in "'\""

    @given(st.text(max_size=200))
    def test_a_shortened_name_ends_with_dots(self, name: str) -> None:
        text = quote(name)
        assert (text == repr(name)) == (len(repr(name)) <= 80)
        assert text == repr(name) or text[:-1].endswith("...")

    def test_a_name_of_a_megabyte_is_shortened(self) -> None:
        assert len(quote("x" * (1 << 20))) == 80
        assert len(quote("\0" * (1 << 20))) == 80
        assert "\ud800" not in quote("\ud800" * 5)
