"""A page's blocks, run from top to bottom as a reader would.

Everything happens in a folder that looks like the checkout, without being it. A block of Python is run in the session
of those before it, a block of shell by a shell of its own. Three kinds of lines are not run as they stand:

- `headrace-server ...` stays in the background until the tour ends. It listens on a free port, which replaces the
  page's port in all later blocks, so that another server on that port disturbs nothing.
- `make TARGET` must name a target that make can plan; its own tests run it.
- `pip install` must name extras of Headrace or packages that are installed.

`. .venv/bin/activate` is what PATH does here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from importlib.metadata import distribution
from pathlib import Path

from tests.docs.fenced import Block
from tests.docs.python_session import PythonSession
from tests.e2e.serving import Served

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8001"
"""Of the server, in the pages."""


class Tour:
    """To be used as `with`; `address` is that of the server when one was started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "COLUMNS": "120"}
        self._stack = ExitStack()
        self._python: PythonSession | None = None
        self.address = ADDRESS
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("client", "proto"):
            (folder / name).symlink_to(ROOT / name)

    def run(self, block: Block) -> list[str]:
        """The lines that the block prints."""
        printed = self._run(block.language, block.code.replace(ADDRESS, self.address))
        return printed.replace(self.address, ADDRESS).splitlines()

    def _run(self, language: str, code: str) -> str:
        if language == "python":
            if self._python is None:
                self._python = self._stack.enter_context(PythonSession(self._folder, self._env))
            return self._python.run(code)
        assert language == "sh", f"a block of {language or 'no language'} is neither Python nor shell"
        return self._shell(code.splitlines())

    def _shell(self, lines: list[str]) -> str:
        script = [line for line in lines if not self._checked(line)]
        servers = [line for line in script if line.startswith("headrace-server ")]
        assert len(servers) <= 1, "one server at a time"
        assert not servers or script[-1] == servers[0], "nothing runs after a server in the foreground"
        printed = self._bash("\n".join(script[: len(script) - len(servers)]))
        return printed + "".join(self._serve(line) for line in servers)

    def _bash(self, script: str) -> str:
        ended = subprocess.run(
            ["bash", "-euc", script], cwd=self._folder, env=self._env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"exit code {ended.returncode} of\n{script}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def _serve(self, line: str) -> str:
        arguments = [
            str(self._folder / word) if (self._folder / word).exists() else word
            for word in shlex.split(line, comments=True)[1:]
        ]
        served = Served(arguments, self._folder / "server.log")
        self._stack.push(served)  # stops it
        ready = served.ready()
        self.address = served.address
        return ready

    def _checked(self, line: str) -> bool:
        """Whether the line installs something, and so was looked at instead of being run."""
        words = shlex.split(line, comments=True)
        match words:
            case ["make", *targets]:
                planned = subprocess.run(
                    ["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False
                )
                assert planned.returncode == 0, f"{line}: {planned.stderr}"
            case ["pip", "install", *requirements]:
                for requirement in requirements:
                    check_requirement(requirement)
            case [".", activate]:
                assert activate == ".venv/bin/activate"
            case _:
                return False
        return True

    def __enter__(self) -> Tour:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def check_requirement(requirement: str) -> None:
    """Headrace with extras that it has, or a package that is installed. Raises AssertionError, PackageNotFoundError."""
    match = re.fullmatch(r"(?P<name>[^\[]+)(?:\[(?P<extras>[^\]]+)\])?", requirement)
    assert match, requirement
    if match["name"] == "headrace" or "/" in match["name"] or match["name"] == ".":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        extras = set((match["extras"] or "").split(",")) - {""}
        assert extras <= set(project["optional-dependencies"]), requirement
    else:
        distribution(match["name"])
