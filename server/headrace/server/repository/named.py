"""Models named on the command line: `FILE` or `NAME=FILE`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from headrace.server.engine.compilation import Compilation

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_PREFIX = re.compile(r"([^=/\\]*)=(.+)", re.DOTALL)


class NamedModelError(Exception):
    """An argument that does not name a model. The message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A version of a model, and how it is to be compiled."""

    name: str
    version: str
    path: Path
    compilation: Compilation = field(default_factory=Compilation)


def named_models(arguments: Iterable[str], compilation: Compilation) -> list[NamedModel]:
    """The models that the arguments name, all to be compiled alike.

    A model without a name is named after its file, without the extension.

    Raises NamedModelError for a name that is invalid or given twice, and for a file that does not exist.
    """
    models: dict[str, NamedModel] = {}
    for argument in arguments:
        match = _PREFIX.fullmatch(argument)
        path = Path(match[2] if match else argument)
        name = match[1] if match else path.stem
        if not _NAME.fullmatch(name):
            raise NamedModelError(
                f"{name!r} is not a valid model name: use up to 128 letters, digits, and the characters _ . + -, as in"
                f" NAME={path}"
            )
        if not path.is_file():
            raise NamedModelError(f"model {name!r}: file {str(path)!r} does not exist")
        if name in models:
            raise NamedModelError(
                f"two models have the name {name!r}: {models[name].path} and {path}. Rename one with NAME={path}"
            )
        models[name] = NamedModel(name, "1", path, compilation)
    return list(models.values())
