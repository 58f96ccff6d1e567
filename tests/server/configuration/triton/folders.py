"""Folders of models with a config.pbtxt."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.configuration.configuration import Configuration
from headrace.server.configuration.toml_file import ConfigurationFile
from headrace.server.repository.source import ModelSource, SourceError
from headrace.server.settings import Settings


def write(folder: Path, text: str, name: str = "m") -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "config.pbtxt").write_text(text)
    return folder / name


def configured(folder: Path, text: str, *, lenient: bool = False) -> ModelSource:
    """The source of a model called `m` with this config.pbtxt."""
    configuration = Configuration(ConfigurationFile(), Settings(), {}, lenient=lenient)
    return configuration.configure("m", write(folder, text))


def errors(folder: Path, text: str) -> list[str]:
    """What is wrong with it: the line, the key and the rest, without the path."""
    with pytest.raises(SourceError) as raised:
        configured(folder, text)
    lines = str(raised.value).removeprefix("model 'm': ").splitlines()
    return [line.removeprefix(f"{folder}/m/config.pbtxt:") for line in lines]
