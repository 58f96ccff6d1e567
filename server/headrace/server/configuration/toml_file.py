"""Reads the TOML file: `[server]` has options of the command line, `[models.NAME]` those of a model."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from headrace.server.configuration.given import Given, dotted
from headrace.server.configuration.key_lines.scanner import Key
from headrace.server.configuration.key_lines.toml import toml_key_lines
from headrace.server.configuration.model_options import check_options, clause
from headrace.server.configuration.problems import Problems, unknown_key
from headrace.server.configuration.values import setting_value
from headrace.server.repository.names import NAME_RULE, is_model_name
from headrace.server.settings import Settings

_SYNTAX_ERROR = re.compile(
    r"(?P<text>.*) \(at (?:line (?P<line>\d+), column \d+|(?P<end>end of document))\)", re.DOTALL
)
_TABLES = ("server", "models")
_PATHS = ("path", "labels")
"""Options of a model that are files."""


@dataclass(slots=True)
class ConfigurationFile:
    """What a file says. `server` has values of fields of Settings, `origins` says where each is."""

    server: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    models: dict[str, Given] = field(default_factory=dict)


def read_toml(file: str, text: str, folder: Path, problems: Problems) -> ConfigurationFile:
    """What a TOML file says; errors go to `problems`. Relative paths in it start at `folder`."""
    found = ConfigurationFile()
    try:
        document = tomllib.loads(text)
        lines = toml_key_lines(text)
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX_ERROR.fullmatch(str(error))
        line = (match["line"] or str(text.count("\n") + 1)) if match else "1"
        problems.add(f"{file}:{line}", "", f"it is not valid TOML: {match['text'] if match else error}")
        return found
    except RecursionError:
        problems.add(file, "", "it is not valid TOML: it is nested too deeply")
        return found
    except ValueError:  # of Python, which reads no more than 4300 digits
        problems.add(file, "", "it is not valid TOML: an integer has too many digits")
        return found
    for name in document:
        if name not in _TABLES:
            problems.add(_origin(file, lines, (name,)), dotted((name,)), _unknown_table(name))
    _read_server(_table(document, "server", file, lines, problems), file, lines, folder, found, problems)
    origins = _origins(file, lines)
    for name, options in _table(document, "models", file, lines, problems).items():
        origin = _origin(file, lines, ("models", name))
        if not is_model_name(name):
            problems.add(origin, dotted(("models", name)), f"this is not a valid name of a model: {NAME_RULE}")
        elif not isinstance(options, dict):
            problems.add(origin, dotted(("models", name)), "a table is expected")
        else:
            given = Given(options, origins[name])
            check_options(given, ("models", name), problems)
            _resolve(given, folder)
            found.models[name] = given
    return found


def _unknown_table(name: str) -> str:
    option = name.replace("-", "_")
    if option in [each.name for each in fields(Settings)]:
        return f"unknown key; options are in [server]: did you mean 'server.{option}'?"
    return unknown_key(name, _TABLES)


def _read_server(
    table: Mapping[str, Any],
    file: str,
    lines: Mapping[Key, int],
    folder: Path,
    found: ConfigurationFile,
    problems: Problems,
) -> None:
    known = [each.name for each in fields(Settings)]
    for name, value in table.items():
        origin, key = _origin(file, lines, ("server", name)), dotted(("server", name))
        if name not in known:
            problems.add(origin, key, unknown_key(name, known))
            continue
        try:
            found.server[name] = _resolved_setting(name, setting_value(name, value), folder)
        except ValueError as error:
            problems.add(origin, key, clause(error))
        found.origins[name] = origin


def _table(
    document: Mapping[str, Any], name: str, file: str, lines: Mapping[Key, int], problems: Problems
) -> Mapping[str, Any]:
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    problems.add(_origin(file, lines, (name,)), name, "a table is expected")
    return {}


def _origin(file: str, lines: Mapping[Key, int], key: Key) -> str:
    return f"{file}:{lines[key]}"


def _origins(file: str, lines: Mapping[Key, int]) -> dict[str, dict[tuple[str, ...], str]]:
    """The origins of the options of each model."""
    origins: defaultdict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for key, line in lines.items():
        names = tuple(each for each in key if isinstance(each, str))
        if names[:1] == ("models",) and names[1:] and len(names) == len(key):
            origins[names[1]][names[2:]] = f"{file}:{line}"
    return origins


def _resolved_setting(name: str, setting: Any, folder: Path) -> Any:
    """A setting whose relative paths start at a folder."""
    if isinstance(setting, tuple):
        return tuple(_resolved_setting(name, each, folder) for each in setting)
    if name == "extension":
        return resolved_extension(setting, folder)
    return folder / setting if isinstance(setting, Path) else setting


def _resolve(given: Given, folder: Path) -> None:
    """Make relative paths of files absolute."""
    outputs = given.options.get("outputs", {})
    tables = [(given.options, name) for name in _PATHS]
    tables += [(each, "labels") for each in (outputs.values() if isinstance(outputs, dict) else ())]
    for table, name in tables:
        if isinstance(table, dict) and isinstance(table.get(name), str) and table[name]:
            table[name] = str(folder / table[name])
    extensions = given.options.get("extensions")
    if isinstance(extensions, list):
        given.options["extensions"] = [resolved_extension(each, folder) for each in extensions]


def resolved_extension(extension: Any, folder: Path) -> Any:
    """A library file, from its folder; a package as it is."""
    is_file = isinstance(extension, str) and ("/" in extension or Path(extension).suffix in (".so", ".dll", ".dylib"))
    return str(folder / extension) if is_file else extension
