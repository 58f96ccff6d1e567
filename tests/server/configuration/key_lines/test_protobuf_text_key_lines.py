"""The lines of the fields of a message, however its text is written."""

from __future__ import annotations

import pytest

from headrace.server.configuration.key_lines.protobuf_text import protobuf_text_key_lines

TEXT = r"""# a: 1
a: -1; b
: [1, # c: 2
2], m { key: "\x4"
'\303\251' value < x: "}" "{" >
}
m: [{ key: "k" value {} },
{ value { x: inf } }]

a: 0x10 # the end"""


@pytest.mark.parametrize("end", ["", "\n", "\r\n# a: 1\n\n"])
def test_every_field_has_its_line(end: str) -> None:
    assert protobuf_text_key_lines(TEXT + end, {"b"}, {"m"}) == {
        ("a",): 2,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1): 4,
        ("m",): 4,
        ("m", "\x04é"): 4,
        ("m", "\x04é", "key"): 4,
        ("m", "\x04é", "value"): 5,
        ("m", "\x04é", "value", "x"): 5,
        ("m", "k"): 7,
        ("m", "k", "key"): 7,
        ("m", "k", "value"): 7,
        ("m", 2): 8,
        ("m", 2, "value"): 8,
        ("m", 2, "value", "x"): 8,
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment"])
def test_texts_without_fields(text: str) -> None:
    assert protobuf_text_key_lines(text, (), ()) == {}
