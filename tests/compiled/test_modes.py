"""How a wheel is built: as it is asked for, and never so that an installation fails that did not ask for anything."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

import hatch_build
from hatch_build import VARIABLE, CannotCompileError, CompilingHook, compile_modules, mode, obstacle
from tests.compiled.sources import ROOT, hook_options

BUILD_DATA = {"pure_python": True, "infer_tag": False, "force_include": {}}


def build_data() -> dict[str, Any]:
    return {**BUILD_DATA, "force_include": {}}


def hook(options: dict[str, Any] | None = None, root: Path = ROOT) -> CompilingHook:
    builder = WheelBuilder(str(root))
    return CompilingHook(
        str(root),
        {**hook_options(), **(options or {})},
        builder.config,
        builder.metadata,
        str(root / "dist"),
        "wheel",
        builder.app,
    )


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -m64")


def test_the_mode_is_one_of_three() -> None:
    assert mode({}) == mode({VARIABLE: ""}) == "auto"
    assert [mode({VARIABLE: each}) for each in ("auto", "pure", "compiled")] == ["auto", "pure", "compiled"]
    with pytest.raises(ValueError, match="HEADRACE_BUILD is 'fast'; it can be auto, pure or compiled"):
        mode({VARIABLE: "fast"})


def test_auto_compiles_where_there_is_a_compiler() -> None:
    assert obstacle("auto", {"CC": "no-such-compiler"}) == "there is no C compiler"
    assert obstacle("auto", {"CC": " "}) == "there is no C compiler"
    assert obstacle("auto", {"CC": "'gcc"}) == "CC cannot be read: No closing quotation"
    assert obstacle("compiled", {"CC": "no-such-compiler"}) is None
    assert obstacle("pure", {"CC": "sh"}) == "HEADRACE_BUILD is pure"
    found = obstacle("auto", {**os.environ, "PIP_NO_INDEX": ""})
    assert found == (None if shutil.which("cc") or shutil.which("gcc") else "there is no C compiler")
    assert obstacle("auto", {**os.environ, "PIP_NO_INDEX": "1"}) == "PIP_NO_INDEX is set, so mypy is not downloaded"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 3", "the C compiler does not work: it exits with 3"),
        ("echo 'In file included from nothing.c:1'\necho 'Python.h:1: error: #if with no expression' >&2\nexit 1",
         "the C compiler does not work: Python.h:1: error: #if with no expression"),
        ("echo 'cannot execute cc1' >&2\nexit 1", "the C compiler does not work: cannot execute cc1"),
    ],
)  # fmt: skip
def test_auto_tries_the_compiler_before_mypy_is_downloaded(tmp_path: Path, script: str, why: str) -> None:
    assert obstacle("auto", {**os.environ, "CC": str(executable(tmp_path / "cc", f"#!/bin/sh\n{script}\n"))}) == why


def test_a_compiler_that_cannot_be_run_is_none(tmp_path: Path) -> None:
    found = obstacle("auto", {**os.environ, "CC": str(executable(tmp_path / "cc", "#!/no/such/shell\n"))})
    assert str(found).startswith("the C compiler does not run: ")


def executable(file: Path, content: str) -> Path:
    file.write_text(content)
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("asked", ["pure", "auto", ""])
@pytest.mark.usefixtures("no_compiler")
def test_who_does_not_compile_needs_no_mypy(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    assert hook().dependencies() == []


def test_who_compiles_gets_the_mypy_that_developers_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "compiled")
    requirements = hook().dependencies()
    assert {each.split("=")[0].rstrip(">") for each in requirements} == {"mypy", "setuptools"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(requirements) <= set(project["optional-dependencies"]["dev"])


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_auto_builds_pure_python_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "auto")
    data = build_data()
    hook().initialize("standard", data)
    assert data == BUILD_DATA
    said = "headrace: this wheel is pure Python, not compiled: there is no C compiler\n"
    assert capsys.readouterr() == ("", said)


def test_pure_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VARIABLE, "pure")
    data = build_data()
    hook().initialize("standard", data)
    assert data == BUILD_DATA
    assert capsys.readouterr() == ("", "")


def broken(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """The options and the root of a project that mypyc refuses."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "broken.py").write_text("class A:\n    x = y = 0\n")
    return {"compiled": ["server/*.py"], "interpreted": []}, tmp_path


def test_what_cannot_be_compiled_fails_when_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, root = broken(tmp_path)
    failing = hook(options)
    monkeypatch.setattr(failing, "_BuildHookInterface__root", str(root))
    why = r"^server/broken.py:2: error: Multiple assignment in class bodies not supported$"
    monkeypatch.setenv(VARIABLE, "compiled")
    with pytest.raises(CannotCompileError, match=why):
        failing.initialize("standard", build_data())
    assert "Multiple assignment" in capsys.readouterr().err
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("CC", "true")
    data = build_data()
    failing.initialize("standard", data)
    assert data == BUILD_DATA
    assert capsys.readouterr().err.startswith("headrace: this wheel is pure Python, not compiled: server/broken.py:2")


def test_a_default_that_would_be_undefined_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "undefined.py").write_text("NONE: list[int] = []\nclass A:\n    x = NONE\n")
    with pytest.raises(CannotCompileError, match=r"undefined\.py:3: warning: Unsupported default"):
        compile_modules(tmp_path, {"compiled": ["server/*.py"], "interpreted": []}, tmp_path / "build")


def test_an_editable_install_is_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_data()
    monkeypatch.setenv(VARIABLE, "auto")
    hook().initialize("editable", data)
    assert data == BUILD_DATA
    monkeypatch.setenv(VARIABLE, "compiled")
    with pytest.raises(CannotCompileError, match="an editable install is pure: use 'make compile'"):
        hook().initialize("editable", data)


def test_what_is_compiled_in_place_can_be_removed(tmp_path: Path) -> None:
    package = tmp_path / "server" / "headrace" / "server"
    package.mkdir(parents=True)
    (package / "core.py").touch()
    for name in (f"core{hatch_build.SUFFIX}", "core.cpython-399-x86_64-linux-gnu.so", "core.pyd"):
        (package / name).touch()
    hatch_build.remove(tmp_path)
    assert [file.name for file in package.iterdir()] == ["core.py"]
