"""Models named on the command line: `path` or `name=path`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_PREFIX = re.compile(r"([^=/\\]*)=(.+)", re.DOTALL)


class NamedModelError(Exception):
    """A sentence for the operator."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    name: str
    version: str
    path: Path


def named_models(arguments: Iterable[str]) -> list[NamedModel]:
    """The models that arguments stand for; without a name, a model is called as its file without the ending.

    Raises NamedModelError for a name that cannot be one or is given twice, and for a file that is not there.
    """
    models: dict[str, NamedModel] = {}
    for argument in arguments:
        match = _PREFIX.fullmatch(argument)
        path = Path(match[2] if match else argument)
        name = match[1] if match else path.stem
        if not _NAME.fullmatch(name):
            raise NamedModelError(
                f"{name!r} cannot be the name of a model: letters, digits and _ . + - only, 128 at most. "
                "Give it one: NAME=PATH"
            )
        if not path.is_file():
            raise NamedModelError(f"model {name!r}: there is no file {path}")
        if name in models:
            raise NamedModelError(f"two models are called {name!r}: {models[name].path} and {path}. Use NAME=PATH")
        models[name] = NamedModel(name, "1", path)
    return list(models.values())
