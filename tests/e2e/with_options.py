"""The server, with options for the ports of its models: `python -m tests.e2e.with_options`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import Any

from headrace.server.cli import main
from headrace.server.engine.compilation import Compilation
from headrace.server.loading.loader import Loader

VARIABLE = "TEST_OPTIONS"


def environment(**models: Compilation) -> dict[str, str]:
    """What to start the server with: of each value the inputs and outputs count, for the model of this name."""
    return {VARIABLE: json.dumps({name: asdict(compilation) for name, compilation in models.items()})}


def _patch() -> None:
    given = {name: Compilation.from_json(value) for name, value in json.loads(os.environ[VARIABLE]).items()}
    load = Loader.load

    def patched(loader: Loader, model: Any, *arguments: Any, **options: Any) -> Any:
        if model.name in given:
            ports = given[model.name]
            compilation = replace(model.compilation, inputs=ports.inputs, outputs=ports.outputs)
            model = replace(model, compilation=compilation)
        return load(loader, model, *arguments, **options)

    setattr(Loader, "load", patched)  # noqa: B010 - mypy refuses to assign to a method


if __name__ == "__main__":
    _patch()
    main()
