"""The links of the documents lead somewhere, and the files that they name are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.tour import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "client/examples/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BASES = [
    ROOT,
    *(ROOT / root / "headrace" for root in ("server", "client", "proto")),
    ROOT / "server/headrace/server",
    ROOT / "client/headrace/client",
]
"""Where the path of a file may start."""
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)+[\w-]+\.(?:py|proto|md|json|toml)|Makefile|[\w-]+\.(?:toml|md|yml))`")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_links_resolve(document: Path) -> None:
    text = _FENCED.sub("", document.read_text("utf-8"))
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{target}: there is no such file"
        if anchor and not _is_generated(file, anchor):
            assert anchor in set(_anchors(file)), f"{target}: there is no such heading"


@documents
def test_named_files_exist(document: Path) -> None:
    text = _FENCED.sub("", document.read_text("utf-8"))
    made = re.compile(r"build/|\.hypothesis/|models/")
    missing = [
        name
        for name in dict.fromkeys(_FILE.findall(text))
        if not made.match(name) and not any((base / name).exists() for base in (*BASES, document.parent))
    ]
    assert not missing


def test_the_table_of_changes_names_a_file_and_a_test() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    _, _, section = text.partition("## I want to change")
    table = section.partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 13
    for wanted, opened, test in rows:
        assert _FILE.search(opened) or "where it is raised" in opened, wanted
        assert _FILE.search(test) or "the test that" in test, wanted


def test_the_map_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= 150


def _anchors(page: Path) -> Iterator[str]:
    """As GitHub and the site make them from headings."""
    for heading in re.findall(r"^#+ +(.+)$", _FENCED.sub("", page.read_text("utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower()
        yield re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")


def _is_generated(page: Path, anchor: str) -> bool:
    """An anchor that mkdocstrings makes for a public name."""
    return page.name == "client.md" and anchor.startswith("headrace.")
