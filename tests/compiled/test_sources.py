"""What mypyc does not take, or makes something else of, in the modules that are compiled: found without compiling."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hatch_build
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
UNIONS = {
    node.target.id
    for module in compiled_modules()
    for node in ast.walk(ast.parse((ROOT / module).read_text()))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.BinOp)
}
"""Names of unions. mypyc leaves an attribute undefined whose default is None, unless one class is all it may have."""
PROTOCOLS = {
    node.name
    for module in compiled_modules()
    for node in ast.walk(ast.parse((ROOT / module).read_text()))
    if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
}
"""Nor has such an attribute a class that mypyc knows."""

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
        if isinstance(statement, ast.AnnAssign) and _is_none(statement.value) and _members(statement.annotation) > 2:
            yield statement.lineno, f"None is no default for a union in class {node.name}: set it in __init__"


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


def coroutines(node: ast.AST) -> Iterator[tuple[int, str]]:
    """A task that was cancelled ended well, although its coroutine had raised another error in the place of that."""
    if isinstance(node, ast.AsyncFunctionDef):
        yield node.lineno, f"{node.name} is a coroutine"


def attributes_that_are_none(node: ast.AST) -> Iterator[tuple[int, str]]:
    """mypy believes that a call does not change what was just set, and mypyc then takes nothing but None there."""
    for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
        statements: list[ast.stmt] = block if isinstance(block, list) else []
        for at, statement in enumerate(statements):
            for name in _set_to_none(statement):
                for later in statements[at + 1 :]:
                    used = [each for each in _own_nodes(later) if ast.unparse(each) == name]
                    if any(isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) for each in used):
                        break
                    if used:
                        yield later.lineno, f"{name} is None to mypyc, whatever has been called since: ask in a method"
                        break


RULES: list[Rule] = [
    attributes_that_are_none,
    inherited_classes,
    deleted_attributes,
    defaults_of_classes,
    fields_of_dataclasses,
    imports_for_types,
    names_in_c,
    coroutines,
]


def _set_to_none(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.Assign):
        return []
    pairs: list[tuple[ast.expr, ast.expr]] = []
    for target in statement.targets:
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs += zip(target.elts, statement.value.elts, strict=True)
        else:
            pairs.append((target, statement.value))
    return [ast.unparse(target) for target, value in pairs if isinstance(target, ast.Attribute) and _is_none(value)]


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


def _is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _members(annotation: ast.expr) -> int:
    """The types of a union, with those of the unions that it names. A protocol counts as one."""
    if isinstance(annotation, ast.BinOp):
        return _members(annotation.left) + _members(annotation.right)
    return 2 if isinstance(annotation, ast.Name) and annotation.id in UNIONS | PROTOCOLS else 1


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
        ("class A:\n    x: B | C | None = None", "2: None is no default for a union in class A: set it in __init__"),
        ("class A:\n    x: Event | None = None", "2: None is no default for a union in class A: set it in __init__"),
        (
            "class A:\n    x: Variables | None = None",
            "2: None is no default for a union in class A: set it in __init__",
        ),
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
        ("async def f():\n    await g()", "1: f is a coroutine"),
        (
            "def f(self):\n    self.x = None\n    self.g()\n    if self.x is None:\n        pass",
            "4: self.x is None to mypyc, whatever has been called since: ask in a method",
        ),
        (
            "def f(self):\n    if y:\n        x, self.x = self.x, None\n        self.g()\n        h(self.x)",
            "5: self.x is None to mypyc, whatever has been called since: ask in a method",
        ),
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
        "def f(self):\n    self.x = None\n    self.x = self.g()\n    return self.x",
        "def f(self):\n    self.x = None\n    return lambda: self.x",
        "try:\n    self.x = None\nexcept E:\n    return self.x",
    ],
)
def test_what_it_takes_is_none(source: str) -> None:
    assert problems(ast.parse(source)) == []


def test_the_list_names_what_there_is() -> None:
    modules = compiled_modules()
    assert len(modules) > 25
    assert not [module for module in modules if "__main__" in module or not Path(ROOT, module).is_file()]


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    compiled = set(compiled_modules())
    found = []
    for file in sorted(path for root in hatch_build.ROOTS for path in (ROOT / root).rglob("*.py")):
        tree = ast.parse(file.read_text())
        if file.relative_to(ROOT).as_posix() not in compiled:
            names = _imported_from(tree, {path.partition("/")[2].removesuffix(".py") for path in compiled})
            classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
            found += [
                f"{file.name}: {each.name}"
                for each in classes
                if names & {ast.unparse(base).partition("[")[0] for base in each.bases}
            ]
    assert found == []


def _imported_from(tree: ast.AST, modules: set[str]) -> set[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {
        name.asname or name.name
        for node in imports
        if str(node.module).replace(".", "/") in modules
        for name in node.names
    }
