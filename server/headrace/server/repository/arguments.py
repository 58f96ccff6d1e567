"""Models named on the command line: `PATH` or `NAME=PATH`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from headrace.server.engine.compilation import Compilation
from headrace.server.repository.names import NAME_RULE, is_model_name, name_of
from headrace.server.repository.source import NEWEST, ModelSource, SourceError

_PREFIX = re.compile(r"([^=/\\]*)=(.+)", re.DOTALL)


def sources_of(arguments: Iterable[str], compilation: Compilation) -> list[ModelSource]:
    """The models that the arguments name, all to be compiled alike. What is on disk is not looked at.

    Raises SourceError for a name that is invalid or given twice.
    """
    sources: dict[str, ModelSource] = {}
    for argument in arguments:
        match = _PREFIX.fullmatch(argument)
        path = Path(match[2] if match else argument)
        name = match[1] if match else name_of(path)
        if not is_model_name(name):
            raise SourceError(f"{name!r} is not a valid model name: {NAME_RULE}, as in NAME={path}")
        if name in sources:
            raise SourceError(
                f"two models have the name {name!r}: {sources[name].path} and {path}. Rename one with NAME={path}"
            )
        sources[name] = ModelSource(name, path, NEWEST, compilation)
    return list(sources.values())
