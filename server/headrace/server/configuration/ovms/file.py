"""Reads a config.json of OpenVINO Model Server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.server.configuration.given import Given, dotted
from headrace.server.configuration.key_lines.json import json_key_lines
from headrace.server.configuration.key_lines.scanner import Key
from headrace.server.configuration.model_options import check_options
from headrace.server.configuration.ovms.entry import Entry
from headrace.server.configuration.ovms.translation import translate
from headrace.server.configuration.problems import Problems, unknown_key
from headrace.server.repository.names import NAME_RULE, is_model_name

_LIST = "model_config_list"
_UNSUPPORTED = {
    "custom_loader_config_list": "Headrace has no custom loaders",
    "pipeline_config_list": "Headrace has no pipelines; clients chain inferences by ticket",
    "mediapipe_config_list": "Headrace has no MediaPipe graphs",
    "custom_node_library_config_list": "Headrace has no custom nodes",
}


def read_json(file: str, text: str, folder: Path, problems: Problems) -> dict[str, Given]:
    """The options of the models in a config.json, by name. Relative paths in it start at `folder`."""
    try:
        document = json.loads(text)
        lines, repeated = json_key_lines(text)
    except json.JSONDecodeError as error:
        problems.add(f"{file}:{error.lineno}", "", f"it is not valid JSON: {error.msg}")
        return {}
    except RecursionError:
        problems.add(f"{file}:1", "", "it is not valid JSON: it is nested too deeply")
        return {}
    except ValueError:  # of Python, which reads no more than 4300 digits
        problems.add(f"{file}:1", "", "it is not valid JSON: an integer has too many digits")
        return {}
    for key, line in repeated.items():
        problems.add(f"{file}:{line}", dotted(key), f"the same key is on line {lines[key]}")
    _check_other_keys(document, file, lines, problems)
    models: dict[str, Given] = {}
    entries = document.get(_LIST, [])
    if not isinstance(entries, list):
        problems.add(_origin(file, lines, (_LIST,)), _LIST, "a list is expected")
        return {}
    for index, item in enumerate(entries):
        key = (_LIST, index, "config")
        config = item.get("config") if isinstance(item, dict) else None
        if not isinstance(config, dict) or len(item) != 1:
            problems.add(
                _origin(file, lines, key[:2]), dotted(key[:2]), "an object with the one key 'config' is expected"
            )
            continue
        _add(Entry(config, file, lines, key, folder, problems), models)
    return models


def _add(entry: Entry, models: dict[str, Given]) -> None:
    name = entry.config.get("name")
    if not isinstance(name, str) or not is_model_name(name):
        entry.error(f"a name of a model is expected: {NAME_RULE}", "name")
    elif name in models:
        entry.error(f"two models have the name {name!r}: the other is at {models[name].origin(())}", "name")
    else:
        given = models[name] = translate(entry)
        check_options(given, ("models", name), entry.problems)


def _check_other_keys(document: Mapping[str, Any], file: str, lines: Mapping[Key, int], problems: Problems) -> None:
    for name, value in document.items():
        origin = _origin(file, lines, (name,))
        if name in _UNSUPPORTED:
            if value:
                problems.unsupported(origin, name, _UNSUPPORTED[name])
        elif name == "monitoring":
            metrics = value.get("metrics", {}) if isinstance(value, dict) else None
            if not isinstance(metrics, dict) or metrics.get("enable"):
                problems.unsupported(origin, name, "Headrace has no metrics of OpenVINO Model Server")
        elif name != _LIST:
            problems.add(origin, name, unknown_key(name, (_LIST, "monitoring", *_UNSUPPORTED)))
    if _LIST not in document:
        problems.add(f"{file}:1", _LIST, "this key is missing")


def _origin(file: str, lines: Mapping[Key, int], key: Key) -> str:
    return f"{file}:{lines[key]}"
