"""Options for the ports of models, as a file of configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import InputOptions, OutputOptions


def configured(folder: Path, **models: Compilation) -> str:
    """The option of the server that gives models, by name, the inputs and outputs of these values."""
    file = folder / "headrace.toml"
    file.write_text("\n".join(line for name, each in models.items() for line in _lines(name, each)) + "\n")
    return f"--config={file}"


def _lines(model: str, compilation: Compilation) -> Iterator[str]:
    for kind, ports, default in (
        ("inputs", compilation.inputs, InputOptions()),
        ("outputs", compilation.outputs, OutputOptions()),
    ):
        for name, options in ports.items():
            yield f"[models.{model}.{kind}.{json.dumps(name)}]"
            for key, value in asdict(options).items():
                if value != getattr(default, key):
                    yield f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
