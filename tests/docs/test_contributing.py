"""What CONTRIBUTING.md says of files is true, and its example is a test that passes."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.docs.fenced import blocks
from tests.docs.tour import ROOT

only_with_git = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="only git knows which files are part of the project"
)


def listed(*patterns: str) -> list[str]:
    command = ["git", "ls-files", *patterns]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_the_example_of_a_rule_passes() -> None:
    (example,) = (block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python")
    scope: dict[str, object] = {}
    exec(example.code, scope)
    tests = [value for name, value in scope.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert callable(test)
        test()


@only_with_git
def test_files_are_short_and_named_after_what_they_do() -> None:
    files = [ROOT / name for name in listed("*.py") if not re.search(r"_pb2(_grpc)?\.py$", name)]
    assert len(files) > 500
    lengths = {file: len(file.read_text("utf-8").splitlines()) for file in files if file.exists()}
    assert {str(file): lines for file, lines in lengths.items() if lines > 400} == {}
    folders = {parent for file in files for parent in file.relative_to(ROOT).parents}
    names = {file.stem for file in files} | {folder.name for folder in folders}
    assert names.isdisjoint({"utils", "util", "helpers", "common", "base", "manager", "misc"})


@only_with_git
def test_nothing_is_at_the_top_by_mistake() -> None:
    documents = {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
    build = {"Makefile", "pyproject.toml", "hatch_build.py", "mkdocs.yml", ".ci", ".gitignore"}
    folders = {"proto", "server", "client", "tests", "docs", "deploy"}
    assert {name.partition("/")[0] for name in listed()} == documents | build | folders
