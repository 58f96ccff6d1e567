"""Ways to serve: this build, other builds, other transports."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOTS = ("proto", "server", "client")
PURE = Path("build/bench/pure")
"""Where the sources go that a server in pure Python runs, if those of the checkout are compiled in place."""
OTHER_BUILD = Path("build/venv-compiled")
"""An environment with a compiled wheel, if it is there."""
HERE = Path(sys.executable).with_name("headrace-server")


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return shlex.join([*(f"{key}={value}" for key, value in self.environment.items()), *self.command])

    def output(self, *arguments: str) -> str:
        """What the command prints with these arguments; empty if it cannot be run."""
        environment = {**os.environ, **self.environment, "COLUMNS": "500"}
        try:
            ended = subprocess.run(
                [*self.command, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
            )
        except OSError:
            return ""
        return ended.stdout

    @property
    def build(self) -> str:
        """`compiled` or `pure`, as its version says; else empty."""
        match = re.search(r"\b(compiled|pure)\b", self.output("--version"))
        return match[1] if match else ""

    def has_option(self, option: str) -> bool:
        return re.search(rf"(?<!\S){option}\b", self.output("--help")) is not None


def parsed_way(text: str) -> Way:
    """`NAME=COMMAND`; variables of the environment may precede the command. Raises ValueError."""
    name, _, command = text.partition("=")
    words = shlex.split(command)
    environment: dict[str, str] = {}
    while words and re.fullmatch(r"\w+=.*", words[0], re.DOTALL):
        key, _, environment[key] = words.pop(0).partition("=")
    if not re.fullmatch(r"[\w.-]+", name) or not words:
        raise ValueError(f"{text!r} is not a way to serve, as in aio='headrace-server --transport aio'")
    if words[0] == "headrace-server":
        words[0] = str(HERE)
    return Way(name, tuple(words), environment)


def ways_of_this_checkout() -> list[Way]:
    """This build first; then the other transport, and the other build, as far as there are any."""
    here = Way("here", (str(HERE),))
    ways = [here]
    if here.has_option("--transport"):
        ways.append(Way("aio", (*here.command, "--transport", "aio")))
    build, compiled = here.build, OTHER_BUILD / "bin" / "headrace-server"
    if build == "compiled":
        ways.append(Way("pure", (sys.executable, "-m", "headrace.server"), {"PYTHONPATH": _sources(PURE)}))
    elif build == "pure" and compiled.is_file():
        ways.append(Way("compiled", (str(compiled),)))
    return ways


def _sources(folder: Path) -> str:
    """The sources of this checkout copied into a folder, without the modules that were compiled in place."""
    shutil.rmtree(folder, ignore_errors=True)
    for root in ROOTS:
        shutil.copytree(root, folder / root, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return os.pathsep.join(str((folder / root).resolve()) for root in ROOTS)


def builds(ways: Sequence[Way]) -> dict[str, str]:
    """The name of the first way of each build, by `compiled` and `pure`; a way that does not say it has none."""
    found: dict[str, str] = {}
    for way in ways:
        if build := way.build:
            found.setdefault(build, way.name)
    return found
