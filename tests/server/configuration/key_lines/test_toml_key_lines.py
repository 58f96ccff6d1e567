"""The lines of the keys of a TOML file, whatever stands between them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.server.configuration.given import quoted, quoted_key
from headrace.server.configuration.key_lines.toml import toml_key_lines

TEXT = '''# a comment = 1
a = 1
[server]
x.y = """q
"" = 1 """
"we ird" = { b = [1, # c = 2
 2, {c=3}] }
[[m]]
n = 2024-01-01 10:00:00 # k = 1
[m.deep]
z = """""two quotes\\""""""
[[m]]
'p.q' = inf
l = \'\'\''' =
\'\'\'
[server . "t.u"]
'''


def test_every_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert toml_key_lines(TEXT) == {
        ("a",): 2,
        ("server",): 3,
        ("server", "x"): 4,
        ("server", "x", "y"): 4,
        ("server", "we ird"): 6,
        ("server", "we ird", "b"): 6,
        ("server", "we ird", "b", 0): 6,
        ("server", "we ird", "b", 1): 7,
        ("server", "we ird", "b", 2): 7,
        ("server", "we ird", "b", 2, "c"): 7,
        ("m",): 8,
        ("m", 0): 8,
        ("m", 0, "n"): 9,
        ("m", 0, "deep"): 10,
        ("m", 0, "deep", "z"): 11,
        ("m", 1): 12,
        ("m", 1, "p.q"): 13,
        ("m", 1, "l"): 14,
        ("server", "t.u"): 16,
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment", "\r\na = 1\r\n"])
def test_texts_with_little_in_them(text: str) -> None:
    tomllib.loads(text)
    assert toml_key_lines(text) == ({("a",): 2} if "a =" in text else {})


STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.datetimes()
    | st.times()
    | st.dates()
    | STRINGS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3))
GAPS = st.sampled_from(["", "\n", "# a = 1\n", "  \n\n", "\t# [x]\n"])


@given(st.dictionaries(STRINGS, st.dictionaries(STRINGS, VALUES, max_size=4), max_size=3), st.data())
def test_any_document_has_the_lines_that_it_was_written_on(document: dict[str, Any], data: st.DataObject) -> None:
    """Tables with a key on each line, and with whatever may stand between lines."""
    text = ""
    wanted: dict[tuple[str | int, ...], int] = {}
    for table, options in document.items():
        text += data.draw(GAPS) + f"[{quoted_key(table)}]"
        wanted[table,] = text.count("\n") + 1
        for name, value in options.items():
            text += f" # {{\n{data.draw(GAPS)}{quoted_key(name)} = {written(value)}"
            last = text.count("\n") + 1
            wanted[table, name] = last
        text += "\n"
    assert {key: line for key, line in toml_key_lines(text).items() if len(key) < 3} == wanted
    keys = {key for key in toml_key_lines(text) if key}
    assert keys == {*all_keys(tomllib.loads(text))}


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted_key(name)} = {written(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return quoted(value)
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def all_keys(value: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        yield (*key, name)
        yield from all_keys(each, (*key, name))
