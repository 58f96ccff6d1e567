"""The example of CONTRIBUTING.md is a test that passes."""

from __future__ import annotations

from tests.docs.fenced import blocks
from tests.docs.tour import ROOT


def test_the_example_of_a_rule_passes() -> None:
    (example,) = (block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python")
    scope: dict[str, object] = {}
    exec(example.code, scope)
    tests = [value for name, value in scope.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert callable(test)
        test()
