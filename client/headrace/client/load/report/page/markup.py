"""HTML fragments shared by the parts of a page. Pure."""

from __future__ import annotations

import html
import json
import re
from typing import Literal

from headrace.client.load.formatting import change_text
from headrace.client.load.report.differences import NOTABLE_PERCENT, difference
from headrace.client.terminal.printing import printable

Better = Literal["more", "less", "neither"]


def text(value: str) -> str:
    """Untrusted text, escaped for use between tags and in attributes. Unprintable characters are spelled out."""
    return html.escape(printable(value))


def sentence(value: str) -> str:
    """Like `text`, without line breaks between a number and its unit."""
    return re.sub(r"(\d) (?=(?:ms|s|%)(?!\w))", "\\1&nbsp;", text(value))


def data(value: object) -> str:
    """JSON for a script element; no text in it can end that element."""
    plain = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def swatch(colour: int) -> str:
    return f'<i class="swatch" style="--colour:var(--s{colour})"></i>'


def change(first: float | None, other: float | None, better: Better, differs: bool | None = None) -> str:
    """How much a figure differs from that of the first run, coloured if that is good or bad and no chance.

    `differs`: whether it is more than chance; None if that is unknown, or cannot be chance.
    """
    percent = difference(first, other)
    if not percent:
        return ""
    kind = ""
    if differs is False:
        return f'<small title="within noise">~ {change_text(percent)}</small>'
    if better != "neither" and abs(percent) >= NOTABLE_PERCENT:
        kind = ' class="good"' if (percent > 0) is (better == "more") else ' class="bad"'
    return f"<small{kind}>{change_text(percent)}</small>"
