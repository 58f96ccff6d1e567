"""The lines of the keys of a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.server.configuration.key_lines.json import json_key_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_every_key_has_its_line() -> None:
    text = '{\n"a": [1,\n{"b\\n}":2}], "c":\n{}\n}'
    lines, repeated = json_key_lines(text)
    assert repeated == {}
    assert lines == {("a",): 2, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b\n}"): 3, ("c",): 3}


def test_a_key_that_an_object_has_again_has_its_own_line() -> None:
    lines, repeated = json_key_lines('{"a": {"b": 1},\n"a": {"c": 1,\n"c": 2}}')
    assert lines["a",] == 1
    assert repeated == {("a",): 2, ("a", "c"): 3}


@given(VALUES, st.sampled_from([None, 0, 2]))
def test_every_key_of_any_document_is_found_in_order(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines, repeated = json_key_lines(text)
    assert repeated == {}
    assert [*lines] == [*all_keys(value)]
    assert [*lines.values()] == sorted(lines.values())


def all_keys(value: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        yield (*key, name)
        yield from all_keys(each, (*key, name))
