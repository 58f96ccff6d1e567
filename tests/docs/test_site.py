"""The pages of the site are complete: every option, every public name, every page in the navigation."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import PurePosixPath

import pytest

import headrace.client as hc
from docs.generate import pages, relinked
from headrace.server.settings import Settings
from tests.docs.tour import ROOT


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    return pages()


def test_every_option_of_the_server(site: dict[str, str]) -> None:
    lines = site["reference/server.md"].splitlines()
    for field in fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        line = next(line for line in lines if re.match(rf"\* `{flag}\b(?!-)", line))
        assert f"[env: HEADRACE_{field.name.upper()}]" in line


def test_every_command(site: dict[str, str]) -> None:
    for command in ("models", "status", "infer", "load", "report"):
        assert f"\n## headrace {command}\n" in site["reference/commands.md"]
    assert "* `--fail-if" in site["reference/commands.md"]


def test_every_public_name_of_the_client(site: dict[str, str]) -> None:
    named = set(re.findall(r"^::: headrace\.client\.(\w+)$", site["reference/client.md"], re.MULTILINE))
    assert named == {*hc.__all__, "blocking"}


def test_the_members_of_a_ticket_exist(site: dict[str, str]) -> None:
    (listed,) = re.findall(r"members: \[(.+)\]", site["reference/client.md"])
    for member in listed.split(", "):
        assert hasattr(hc.Ticket, member)


def test_the_contract_with_its_comments(site: dict[str, str]) -> None:
    assert "// The native contract of Headrace" in site["reference/contract.md"]


def test_every_page_is_in_the_navigation(site: dict[str, str]) -> None:
    listed = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(site)


def test_links_between_pages_lead_to_pages(site: dict[str, str]) -> None:
    for page, text in site.items():
        for target in re.findall(r"\]\(([^)\s#]+\.md)", text):
            if ":" not in target:
                assert os.path.normpath(PurePosixPath(page).parent / target) in site, f"{target} in {page}"


@pytest.mark.parametrize(
    ("source", "page", "link", "becomes"),
    [
        ("README.md", "index.md", "[a](docs/guide/client.md)", "[a](guide/client.md)"),
        ("README.md", "index.md", "[a](ARCHITECTURE.md#words)", "[a](architecture.md#words)"),
        ("README.md", "index.md", "[`a`](proto/headrace/v1/inference.proto)", "`a`"),
        ("docs/guide/client.md", "guide/client.md", "[a](../reference/client.md)", "[a](../reference/client.md)"),
        ("docs/guide/client.md", "guide/client.md", "[a](../../ARCHITECTURE.md)", "[a](../architecture.md)"),
        ("README.md", "index.md", "[a](https://docs.openvino.ai)", "[a](https://docs.openvino.ai)"),
        ("README.md", "index.md", "```\n[a](LICENSE)\n```", "```\n[a](LICENSE)\n```"),
    ],
)
def test_links_are_rewritten(source: str, page: str, link: str, becomes: str) -> None:
    assert relinked(link, source, page) == becomes
