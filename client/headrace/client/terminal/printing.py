"""Printing to a terminal, or to a file or pipe."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table

NO_WRAP_WIDTH = 100_000
"""Columns of output that does not go to a terminal, where no line may wrap."""


def print_table(table: Table, file: TextIO | None = None, width: int | None = None) -> None:
    """Print a table as wide as the terminal. To a file or pipe, print each row on one line, without colours."""
    file = file or sys.stdout
    width = width or (None if file.isatty() else NO_WRAP_WIDTH)
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=file)


def size_text(size: float) -> str:
    """A size in bytes, for example `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def printable(name: str) -> str:
    """A name from outside, safe to show on a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)
