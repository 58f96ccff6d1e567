"""Configurations for tests, as the command reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.server.configuration.configuration import Configuration, read_configuration
from headrace.server.configuration.problems import ConfigurationError
from headrace.server.settings import Settings


def read(folder: Path, text: str, name: str = "headrace.toml", *, lenient: bool = False) -> Configuration:
    """What a file in `folder` with this text configures, without flags."""
    file = folder / name
    file.write_text(text)
    return read_configuration(file, Settings(), {}, lenient=lenient)


def errors(folder: Path, text: str, *arguments: str, name: str = "headrace.toml") -> list[str]:
    """What is wrong with it, without the path of the folder."""
    with pytest.raises(ConfigurationError) as raised:
        read(folder, text, name).models(arguments)
    return str(raised.value).replace(f"{folder}/", "").splitlines()
