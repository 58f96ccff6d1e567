"""The Python of the guides is Python, and calls what there is. What the README shows is run."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import headrace.client as hc
from tests.docs.fenced import Block, blocks
from tests.docs.tour import ROOT

GUIDES = ROOT / "docs" / "guide"
OBJECTS: dict[str, Any] = {"hc": hc, "server": hc.Server, "stream": hc.Stream, "ticket": hc.Ticket}
"""What these names stand for in the guides."""


def pieces() -> list[Any]:
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in sorted(GUIDES.glob("*.md"))
        for block in blocks(page)
        if block.language == "python"
    ]


def called(function: ast.expr) -> Callable[..., object] | None:
    """What a call in a guide calls; None if that is not the client's."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in OBJECTS:
        return getattr(OBJECTS[function.value.id], function.attr)  # type: ignore[no-any-return]  # the names are the guide's
    return None


@pytest.mark.parametrize("block", pieces())
def test_the_python_of_a_guide_calls_what_there_is_with_what_it_takes(block: Block) -> None:
    code = "\n".join(block.lines)
    compile(code, "guide", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(code)):
        function = called(node.func) if isinstance(node, ast.Call) else None
        if function is not None:
            assert isinstance(node, ast.Call)
            own = [] if inspect.isclass(function) or function in vars(hc).values() else ["self"]
            keywords = {each.arg: each.value for each in node.keywords if each.arg is not None}
            inspect.signature(function).bind(*own, *node.args, **keywords)


def test_the_targets_of_the_guide_are_targets() -> None:
    (code,) = [block.code for block in blocks(GUIDES / "client.md") if "hc.connect(" in block.code]
    exec(code, {})
