"""What the runtime says about a failure, as part of a sentence for the operator.

Clients never get it, because it names files.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 400
_PLACE = re.compile(r"^Exception from \S+:\d+:?\s*$|\bat \S+\.[ch]pp:\d+:?")
"""Where in the runtime's source the failure was noticed."""


def reason_of(error: BaseException) -> str:
    """The text of an exception, or its type if it has none."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The text on one line, printable, without places in the runtime's source, at most MAX_CHARACTERS long."""
    words = " ".join(_PLACE.sub("", line).strip() for line in text[: 16 * MAX_CHARACTERS].splitlines()).split()
    line = "".join(character if character.isprintable() else "?" for character in " ".join(words))
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 3] + "..."
