"""Writes what is in force as a TOML file, which means the same when it is read again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from headrace.server.configuration.configuration import Configuration, ConfiguredModel
from headrace.server.configuration.given import Given, quoted, quoted_key
from headrace.server.configuration.model_options import INHERITED, ModelOptions
from headrace.server.settings import Settings
from headrace.server.sizes import format_size

DEFAULT = "default"
_SIZES = tuple(each.name for each in fields(Settings) if "bytes" in each.name or each.name == "memory")
_AUTOMATIC = {"memory": "half of what the process may have", "metrics_port": "off"}
"""What the absence of a setting means, which TOML has no value for, unless it is that there is none."""


def as_toml(configuration: Configuration, models: Iterable[ConfiguredModel]) -> str:
    """Every option with its value, and where that came from in a comment."""
    lines = ["[server]", *_server_lines(configuration)]
    for model in sorted(models, key=lambda each: each.source.name):
        lines += ["", *_model_lines(configuration, model)]
    return "\n".join(lines) + "\n"


def _server_lines(configuration: Configuration) -> Iterator[str]:
    for each in fields(Settings):
        name, value = each.name, _setting(each.name, getattr(configuration.settings, each.name))
        origin = configuration.origins.get(name, DEFAULT)
        if value is None:
            yield f"# {name}: {_AUTOMATIC.get(name, 'none')}  # {origin}"
        else:
            yield _line(name, value, origin)


def _setting(name: str, value: Any) -> Any:
    """A setting as the file has it."""
    if name == "batch":
        return {None: "auto", 1: "off"}.get(value, value)
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, tuple):
        return tuple(each.absolute() if isinstance(each, Path) else each for each in value)
    if name in _SIZES:
        return format_size(value) if value and value % 1024 == 0 else value
    return value


def _model_lines(configuration: Configuration, model: ConfiguredModel) -> Iterator[str]:
    table, given = ("models", model.source.name), model.given
    yield _header(table)
    defaults = {each.name: each.default for each in fields(ModelOptions)}
    for name, default in defaults.items():
        if name == "path" and given.get(name) is None:
            continue  # of a repository
        if name == "path":
            yield _line(name, str(model.source.path.absolute()), given.origin((name,)) or DEFAULT)
        elif name in given.options and not isinstance(given.options[name], dict):
            yield _line(name, given.options[name], given.origin((name,)))
        elif name in INHERITED:
            setting = INHERITED[name]
            value = getattr(configuration.settings, setting)
            yield _line(name, _setting(name, value), configuration.origins.get(setting, DEFAULT))
        elif isinstance(default, str | int | tuple) and default not in ("", ()):
            yield _line(name, default, DEFAULT)
    for name, options in given.options.items():
        if isinstance(options, dict):
            yield from _table_lines((*table, name), (name,), options, given)


def _table_lines(
    header: tuple[str, ...], path: tuple[str, ...], options: Mapping[str, Any], given: Given
) -> Iterator[str]:
    values = {name: value for name, value in options.items() if not isinstance(value, dict)}
    if values or not options:
        yield ""
        yield _header(header)
    for name, value in values.items():
        yield _line(name, value, given.origin((*path, name)))
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _table_lines((*header, name), (*path, name), value, given)


def _header(names: Sequence[str]) -> str:
    return f"[{'.'.join(map(quoted_key, names))}]"


def _line(name: str, value: Any, origin: str) -> str:
    return f"{quoted_key(name)} = {_value(value)}  # {origin}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "inf" if math.isinf(value) else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return quoted(str(value)) if isinstance(value, str | Path) else str(value)
