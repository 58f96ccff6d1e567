"""What mypyc does not take, or makes something else of, in the modules that are compiled: found without compiling."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compiled.sources import ROOT, compiled_modules

_PRIMITIVES = {"bool", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple", "type"}
_C_KEYWORDS = {"asm", "attribute", "const", "inline", "restrict", "signed", "typeof", "volatile"}
"""gcc has each of them also with two underscores before it, and mypyc puts one before the name of an attribute."""

_BASES = {"Generic", "Protocol", "NamedTuple", "Enum", "IntEnum"}
COMPILED_CLASSES = {
    node.name
    for module in compiled_modules()
    for node in ast.walk(ast.parse((ROOT / module).read_text()))
    if isinstance(node, ast.ClassDef)
}

Rule = Callable[[ast.AST], Iterator[tuple[int, str]]]


def problems(tree: ast.AST) -> list[str]:
    return [f"{line}: {what}" for node in ast.walk(tree) for rule in RULES for line, what in rule(node)]


def deleted_attributes(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Delete):
        for target in node.targets:
            if isinstance(target, ast.Attribute):
                yield node.lineno, f"attribute {target.attr} is deleted: set it to None"


def defaults_of_classes(node: ast.AST) -> Iterator[tuple[int, str]]:
    if not isinstance(node, ast.ClassDef) or _has_its_own_rules(node):
        return
    for statement in node.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) > 1:
            yield statement.lineno, f"two names are assigned at once in class {node.name}"
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if value is not None and not _is_slots(statement) and not _is_constant(value):
            yield statement.lineno, f"a default of class {node.name} is no literal: set it in __init__"


def fields_of_dataclasses(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.ClassDef) and _is_dataclass(node):
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.annotation, ast.Name):
                name = statement.annotation.id
                if hasattr(builtins, name) and name not in _PRIMITIVES:
                    yield statement.lineno, f"a field of dataclass {node.name} is a {name}: no such class is imported"


def imports_for_types(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        yield node.lineno, "TYPE_CHECKING: a dataclass loads the classes of its fields"


def names_in_c(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        name = node.attr
        if name.startswith("_") and name[1:] in _C_KEYWORDS:
            yield node.lineno, f"attribute {name} is a keyword of C with one more underscore"


def inherited_classes(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            name = ast.unparse(base).partition("[")[0]
            if name not in COMPILED_CLASSES | _BASES:
                yield node.lineno, f"{node.name} inherits from {name}, which is not compiled: its memory is not known"


def asynchronous_generators(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.AsyncFunctionDef):
        own = [each for each in _own_nodes(node) if isinstance(each, ast.Yield)]
        if own:
            yield node.lineno, f"{node.name} is an asynchronous generator"


RULES: list[Rule] = [
    inherited_classes,
    deleted_attributes,
    defaults_of_classes,
    fields_of_dataclasses,
    imports_for_types,
    names_in_c,
    asynchronous_generators,
]


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _own_nodes(node)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _has_its_own_rules(node: ast.ClassDef) -> bool:
    """Whether what stands in the class is read by something that makes the class, rather than by mypyc."""
    bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    return _is_dataclass(node) or bool(bases & {"Enum", "IntEnum", "NamedTuple", "TypedDict", "Structure"})


def _is_slots(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__"


def _is_constant(value: ast.expr) -> bool:
    match value:
        case ast.Constant() | ast.UnaryOp(ast.USub(), ast.Constant()):
            return True
        case ast.Tuple(elements):
            return all(map(_is_constant, elements))
    return False


@pytest.mark.parametrize("module", compiled_modules())
def test_mypyc_takes_what_is_compiled(module: str) -> None:
    assert problems(ast.parse((ROOT / module).read_text())) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(self):\n    del self.x", "2: attribute x is deleted: set it to None"),
        ("class A:\n    x = y = 0", "2: two names are assigned at once in class A"),
        ("class A:\n    x: int = f()", "2: a default of class A is no literal: set it in __init__"),
        ("class A:\n    x = State.NEW", "2: a default of class A is no literal: set it in __init__"),
        (
            "@dataclass(slots=True)\nclass A:\n    x: memoryview",
            "3: a field of dataclass A is a memoryview: no such class is imported",
        ),
        ("if TYPE_CHECKING:\n    import x", "1: TYPE_CHECKING: a dataclass loads the classes of its fields"),
        ("self._inline = 1", "1: attribute _inline is a keyword of C with one more underscore"),
        (
            "class A(OrderedDict[int, str]):\n    pass",
            "1: A inherits from OrderedDict, which is not compiled: its memory is not known",
        ),
        ("async def f():\n    yield 1", "1: f is an asynchronous generator"),
    ],
)
def test_what_it_does_not_take_is_found(source: str, problem: str) -> None:
    assert problems(ast.parse(source)) == [problem]


@pytest.mark.parametrize(
    "source",
    [
        "del self.x[0]",
        "class A(Enum):\n    x = f()",
        "class A:\n    __slots__ = ('a',)\n    x: tuple[int, ...] = ()\n    y = -1\n    z: B | None = None",
        "@dataclass\nclass A:\n    x: int\n    y: memoryview | None\n    z: list[slice] = field(default_factory=list)",
        "async def f():\n    def g():\n        yield 1",
    ],
)
def test_what_it_takes_is_none(source: str) -> None:
    assert problems(ast.parse(source)) == []


def test_the_list_names_what_there_is() -> None:
    modules = compiled_modules()
    assert len(modules) > 50
    assert not [module for module in modules if "__main__" in module or not Path(ROOT, module).is_file()]
