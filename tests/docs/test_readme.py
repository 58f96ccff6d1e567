"""README.md is what it says: its blocks run, in order, and print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.fenced import blocks
from tests.docs.tour import ROOT, Tour, check_requirement

README = ROOT / "README.md"


def test_the_tour_runs_as_it_stands(tmp_path: Path) -> None:
    with Tour(tmp_path) as tour:
        for block in blocks(README):
            printed = tour.run(block)
            assert not block.output or printed == block.output, f"README.md:{block.line}"


def test_what_its_sentences_install_exists() -> None:
    found = re.findall(r"pip install '?([^'`\s]+)", README.read_text("utf-8"))
    assert found
    for requirement in found:
        check_requirement(requirement)


def test_it_is_short() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 150
