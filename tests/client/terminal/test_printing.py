"""Text for terminals. Only the command imports what prints it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headrace.client.terminal.printing import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (300 << 20, "300 MiB"), (3 << 40, "3072 GiB")],
)
def test_sizes_have_binary_units(size: int, text: str) -> None:
    assert size_text(size) == text


def test_the_library_alone_imports_nothing_for_terminals() -> None:
    script = "import sys, headrace.client; sys.exit(bool({'cyclopts', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
