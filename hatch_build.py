"""Compiles the modules that each request passes through, by mypyc, into the wheel or beside their sources.

HEADRACE_BUILD decides how a wheel is built: `auto`, the default, compiles where there is a C compiler that works, and
is content with pure Python where that fails; `pure` leaves it as it is, and `compiled` fails if it cannot be compiled.
An editable install is pure. `make compile` runs this file to compile in place, and `make pure` to undo that.

docs/design/compiled.md says which modules are compiled, and what that asks of their source.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "HEADRACE_BUILD"
ROOTS = ("proto", "server", "client")
GROUP = "headrace.compiled"
"""All modules are one extension, so that they call each other without Python in between: headrace.compiled__mypyc."""
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
_OPTIONS = (
    "--config-file=",
    "--namespace-packages",
    "--explicit-package-bases",
    # What is compiled must not depend on which packages happen to be installed where it is.
    "--no-site-packages",
    "--disable-error-code=import-not-found",
    "--disable-error-code=import-untyped",
    "--disable-error-code=union-attr",  # `make check` knows the types of NumPy; here they are missing
    "--follow-imports=silent",
    "--hide-error-context",
)
_UNDEFINED = "Unsupported default attribute value"
"""mypyc only warns of this, and the attribute is undefined when the program runs."""


class CannotCompileError(Exception):
    """Says why; `output` is what mypyc and the C compiler have written."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output


class CompilingHook(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is that of any builder
    """Puts compiled modules into wheels."""

    _folder: TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """Only who compiles has to install a compiler: mypy is larger than all of Headrace."""
        return self.config["requirements"] if obstacle(mode()) is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = mode()
        if version == "editable":
            if wanted == "compiled":
                raise CannotCompileError(f"an editable install is pure: use 'make compile', or unset {VARIABLE}")
            return
        self._folder = TemporaryDirectory(prefix="headrace-build-")
        try:
            reason = obstacle(wanted)
            if reason is not None:
                raise CannotCompileError(reason)
            built = compile_modules(Path(self.root), self.config, Path(self._folder.name))
        except (CannotCompileError, OSError) as error:
            self._folder.cleanup()
            if wanted == "compiled":
                print(getattr(error, "output", ""), file=sys.stderr)
                raise
            if wanted == "auto":
                print(f"headrace: this wheel is pure Python, not compiled: {error}", file=sys.stderr)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(file): name for name, file in built.items()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def mode(environment: Mapping[str, str] = os.environ) -> str:
    """Raises ValueError for a value that is none of the three."""
    value = environment.get(VARIABLE) or "auto"
    if value not in ("auto", "pure", "compiled"):
        raise ValueError(f"{VARIABLE} is {value!r}; it can be auto, pure or compiled")
    return value


def obstacle(wanted: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Why this wheel is not compiled, or None. With `compiled` nothing but a failure is a reason."""
    if wanted == "pure":
        return f"{VARIABLE} is pure"
    if wanted == "auto":
        if sys.implementation.name != "cpython":
            return "mypyc compiles for CPython only"
        if environment.get("PIP_NO_INDEX"):
            return "PIP_NO_INDEX is set, so mypy is not downloaded"
        try:
            command = shlex.split(environment.get("CC") or sysconfig.get_config_var("CC") or "cc")
        except ValueError as error:
            return f"CC cannot be read: {error}"
        if not command or not shutil.which(command[0], path=environment.get("PATH")):
            return "there is no C compiler"
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            return "the headers of Python are not installed"
        return _failure_of(command, environment)
    return None


def _failure_of(compiler: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Why a C compiler makes nothing of Python's headers, or None: mypy is large, and not downloaded in vain."""
    includes = [f"-I{sysconfig.get_path(each)}" for each in ("include", "platinclude")]
    with TemporaryDirectory(prefix="headrace-build-") as folder:
        source = Path(folder, "nothing.c")
        source.write_text("#include <Python.h>\n")
        command = [*compiler, *includes, "-c", str(source), "-o", f"{folder}/nothing.o"]
        try:
            ran = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the C compiler does not run: {error}"
    if ran.returncode:
        said = [line.strip() for line in (ran.stderr + ran.stdout).splitlines()]
        first = next((line for line in said if "error" in line), said[0] if said else f"it exits with {ran.returncode}")
        return f"the C compiler does not work: {first}"
    return None


def modules(root: Path, config: Mapping[str, Any]) -> list[str]:
    """The sources that are compiled, as paths below the root."""
    left_out = {path for pattern in config["interpreted"] for path in root.glob(pattern)}
    found = {path for pattern in config["compiled"] for path in root.glob(pattern)} - left_out
    return sorted(path.relative_to(root).as_posix() for path in found if not path.name.startswith("__"))


def compile_modules(root: Path, config: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Compile in a folder. Returns the extensions by their paths in a wheel. Raises CannotCompileError."""
    sources = modules(root, config)
    # In a process of its own, since mypyc ends the one it fails in, and needs this working directory.
    command = [sys.executable, str(Path(__file__).resolve()), "--mypyc", str(folder), *sources]
    environment = {**os.environ, "MYPYPATH": os.pathsep.join(str(root / each) for each in ROOTS)}
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    output = ran.stdout + ran.stderr
    if ran.returncode or _UNDEFINED in output:
        problems = [line for line in output.splitlines() if "rror" in line or _UNDEFINED in line]
        raise CannotCompileError(problems[0].strip() if problems else "mypyc has failed", output)
    built = {file.relative_to(folder / "lib").as_posix(): file for file in (folder / "lib").rglob(f"*{SUFFIX}")}
    if len(built) != len(sources) + 1:
        raise CannotCompileError(f"{len(sources)} modules have become {len(built)} extensions", output)
    _load(next((folder / "lib").rglob(f"*__mypyc{SUFFIX}")))
    return built


def _load(shared: Path) -> None:
    """Load the extension that all modules share, in a process of its own: it may be for another machine.

    Those of the modules import what only runs need. Raises CannotCompileError.
    """
    name = f"{GROUP}__mypyc"
    code = f"from importlib import util; util.module_from_spec(util.spec_from_file_location({name!r}, {str(shared)!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise CannotCompileError(f"what was compiled does not load: {said[-1]}", ran.stderr)


def _run_mypyc(folder: str, *sources: str) -> None:
    """Runs in the process that `compile_modules` starts."""
    from mypyc.build import mypycify
    from setuptools import setup  # type: ignore[import-untyped]  # it has no stubs

    options = [*_OPTIONS, f"--cache-dir={folder}/cache"]
    extensions = mypycify(
        [*options, *sources], opt_level="1", debug_level="0", group_name=GROUP, target_dir=f"{folder}/c"
    )
    arguments = ["--quiet", "build_ext", f"--build-lib={folder}/lib", f"--build-temp={folder}/objects"]
    setup(name="headrace", packages=[], py_modules=[], ext_modules=extensions, script_args=arguments)


def compile_in_place(root: Path) -> None:
    """Put the extensions beside their sources. Raises CannotCompileError, and leaves pure Python then."""
    remove(root)
    config = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    with TemporaryDirectory(prefix="headrace-build-") as folder:
        built = compile_modules(root, config["hooks"]["custom"], Path(folder))
        for name, file in built.items():
            # What belongs to no root is what all of them share.
            beside = [root / each / Path(name).parent for each in ROOTS if (root / each / source_of(name)).is_file()]
            shutil.copy(file, (beside or [root / "proto" / "headrace"])[0])
    print(f"headrace: {len(built) - 1} modules run compiled now, until 'make pure'")


def source_of(extension: str) -> str:
    """The path of the source of an extension."""
    return extension.removesuffix(SUFFIX) + ".py"


def remove(root: Path) -> None:
    """Remove what `compile_in_place` has put beside the sources, for whichever version of Python."""
    for each in ROOTS:
        for pattern in ("*.so", "*.pyd"):
            for file in (root / each).rglob(pattern):
                file.unlink()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--mypyc", folder, *sources]:
            _run_mypyc(folder, *sources)
        case ["compile"]:
            try:
                compile_in_place(Path(__file__).parent)
            except CannotCompileError as error:
                sys.exit(f"{error.output}\nheadrace: not compiled: {error}")
        case ["pure"]:
            remove(Path(__file__).parent)
        case _:
            sys.exit("Usage: hatch_build.py compile|pure")
