"""The modules that are compiled, as pyproject.toml lists them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import hatch_build

ROOT = Path(__file__).parents[2]


def hook_options() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    options: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return options


def compiled_modules() -> list[str]:
    return hatch_build.modules(ROOT, hook_options())
