"""Gather the pages of the site: `python docs/generate.py build/pages`.

The pages come from three places:

- docs/ itself;
- README.md, ARCHITECTURE.md and the other documents at the top of the checkout, whose links are rewritten;
- the code: every option of both commands, and the contract with its comments, where a page says `<!-- contract -->`.

A link that leads out of the pages, to a source file, becomes plain text. The reference of the client is a page of
docs/ in which mkdocstrings fills in the docstrings.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Documents at the top of the checkout, and the pages that they become."""
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^( *```.*?^ *```)$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"^\* `--(?P<name>[a-z-]+)\b[^`]*`:.*$", re.MULTILINE)


def pages() -> dict[str, str]:
    """Every page, by its path."""
    sources = dict(TOP)
    for file in sorted((ROOT / "docs").rglob("*.md")):
        page = file.relative_to(ROOT / "docs").as_posix()
        sources[f"docs/{page}"] = page
    return {page: completed(relinked(read(source), source, page)) for source, page in sources.items()}


def read(source: str) -> str:
    return (ROOT / source).read_text("utf-8")


def completed(text: str) -> str:
    """The text with what comes from the code."""
    for marker, generated in GENERATED.items():
        if marker in text:
            text = text.replace(marker, generated())
    return text


def server_options() -> str:
    """The options of `headrace-server`, from its settings."""
    from headrace.server.cli import app

    def with_names(option: re.Match[str]) -> str:
        name = option["name"]
        if "[env:" in option[0]:
            return option[0]
        return f"{option[0]} *[env: HEADRACE_{name.replace('-', '_').upper()}]*"

    text = _OPTION.sub(with_names, app.generate_docs(recursive=False))  # `check` has the same options
    token = _without_title(app.meta["token"].generate_docs())  # of the outer app: its options are its own
    token = token.replace("token [OPTIONS] NAME", "headrace-server token NAME [OPTIONS]")
    return f"{_without_title(text.replace(' *[default: ()]*', ''))}\n\n## headrace-server token\n\n{token}"


def commands() -> str:
    """The commands of `headrace` and their options."""
    from headrace.client.cli import app

    return _without_title(app.generate_docs())


def contract() -> str:
    return f"```protobuf\n{read('proto/headrace/v1/inference.proto')}```"


GENERATED = {
    "<!-- options of headrace-server -->": server_options,
    "<!-- commands of headrace -->": commands,
    "<!-- contract -->": contract,
}
"""What stands for generated text in a page."""


def _without_title(text: str) -> str:
    return text.removeprefix(text[: text.index("\n")]).strip()


def relinked(text: str, source: str, page: str) -> str:
    """The text of `source`, a file of the checkout, with links as they must be in `page`."""

    def link(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or ":" in target:
            return match[0]
        file = _normal(PurePosixPath(source).parent / target)
        if file in TOP:
            found = TOP[file]
        elif file.startswith("docs/") and file.endswith(".md"):
            found = file.removeprefix("docs/")
        else:
            return match["text"]
        relative = os.path.relpath(found, PurePosixPath(page).parent)
        return f"[{match['text']}]({relative}{'#' if anchor else ''}{anchor})"

    parts = _FENCE.split(text)
    parts[::2] = (_LINK.sub(link, part) for part in parts[::2])
    return "".join(parts)


def _normal(path: PurePosixPath) -> str:
    return os.path.normpath(path)


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for page, text in pages().items():
        file = folder / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Gather the pages of the site.")
    parser.add_argument("folder", type=Path, help="is replaced by one with the pages")
    main(parser.parse_args().folder)
