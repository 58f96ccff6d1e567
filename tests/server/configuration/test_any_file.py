"""Whatever stands in a file, it is configured or there are errors that name the place."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headrace.server.configuration.configuration import Configuration
from headrace.server.configuration.model_options import ModelOptions
from headrace.server.configuration.ovms.file import read_json
from headrace.server.configuration.ovms.translation import KINDS
from headrace.server.configuration.printing import as_toml
from headrace.server.configuration.problems import Problems
from headrace.server.configuration.toml_file import ConfigurationFile, read_toml
from headrace.server.configuration.triton.message import read_pbtxt
from headrace.server.configuration.triton.translation import translate
from headrace.server.engine.port_options import InputOptions, OutputOptions
from headrace.server.repository.source import SourceError
from headrace.server.settings import Settings
from tests.server.configuration.key_lines.test_toml_key_lines import STRINGS, VALUES, written

PLACE = re.compile(r"(headrace\.toml|config\.json|config\.pbtxt):\d+: ")
PLAUSIBLE = st.sampled_from(
    ["auto", "off", "CPU", "latest 2", "all", "throughput", "reset", "1,3,?", "RGB", "NHWC", "64MiB", "f32", "", "a"]
)
VALUE = VALUES | PLAUSIBLE | st.integers(-2, 100) | st.lists(st.integers(0, 5), max_size=4)
PORTS = st.dictionaries(
    st.sampled_from(["x", "*", "a b"]),
    st.dictionaries(st.sampled_from([each.name for each in (*fields(InputOptions), *fields(OutputOptions))]), VALUE),
)
MODEL = st.dictionaries(st.sampled_from([each.name for each in fields(ModelOptions)]) | STRINGS, VALUE | PORTS)
SERVER = st.dictionaries(st.sampled_from([each.name for each in fields(Settings)]) | STRINGS, VALUE)


@given(SERVER, st.dictionaries(st.sampled_from(["m", "n-1", "a b"]), MODEL, max_size=2))
@example({}, {"m": {"properties": 1, "streams": "auto"}})
def test_any_toml(server: dict[str, Any], models: dict[str, dict[str, Any]]) -> None:
    text = written_tables({"server": server, **{f'models."{name}"': options for name, options in models.items()}})
    problems = Problems()
    found = read_toml("headrace.toml", text, Path("/f"), problems)
    assert all(PLACE.match(error) for error in problems.errors)
    if problems.errors:
        return
    configuration = Configuration(found, Settings(), {})
    try:
        configured = configuration.models((), repository=True)
    except SourceError:
        return
    printed = Problems()
    again = read_toml("headrace.toml", as_toml(configuration, configured), Path("/g"), printed)
    assert printed.errors == []
    assert Configuration(again, Settings(), {}).settings == configuration.settings


def written_tables(tables: dict[str, dict[str, Any]]) -> str:
    lines: list[str] = []
    for name, options in tables.items():
        lines += [
            f"[{name}]",
            *(f"{json.dumps(key)} = {written(value)}" for key, value in options.items() if key.isascii()),
        ]
    return "\n".join(lines).replace("\\u007f", "\x7f").replace("\x7f", "")


CONFIG = st.dictionaries(st.sampled_from([*KINDS]), VALUE.filter(lambda value: is_json(value)) | st.none())


def is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.lists(CONFIG, max_size=3))
def test_any_config_json(configs: list[dict[str, Any]]) -> None:
    document = {"model_config_list": [{"config": {"name": "m", "base_path": "x", **each}} for each in configs]}
    problems = Problems()
    models = read_json("config.json", json.dumps(document, indent=1), Path("/f"), problems)
    assert all(PLACE.match(error) for error in problems.errors)
    if not problems.errors:
        Configuration(ConfigurationFile(models=models), Settings(), {}).models(())


TOKENS = st.sampled_from(
    [
        *("name: 'm'", "max_batch_size: 4", "input", "output", "[", "]", "{", "}", "dims: [1, -1]", "dims: 3", ","),
        *("name: 'x'", "data_type: TYPE_FP32", "dynamic_batching", "parameters", "key: 'NUM_STREAMS'", "value"),
        *("string_value: '2'", "instance_group", "kind: KIND_CPU", "count: 2", "# c\n", "\n", "version_policy", "all"),
        *(
            "reshape",
            "shape: []",
            "format: FORMAT_NHWC",
            "<",
            ">",
            ";",
            ":",
            "model_warmup",
            "inputs",
            "zero_data: true",
        ),
    ]
)


@given(st.lists(TOKENS, max_size=30))
def test_any_config_pbtxt(tokens: list[str]) -> None:
    problems = Problems()
    pbtxt = read_pbtxt("config.pbtxt", " ".join(tokens), problems)
    if pbtxt is not None:
        translate(pbtxt, "m", Path("/f/m"), problems)
    assert all(PLACE.match(error) for error in problems.errors)


@pytest.mark.parametrize("text", ["", "\0", "input {" * 500, "'", "\ud800".encode("utf-8", "replace").decode()])
def test_texts_that_are_no_configuration(text: str) -> None:
    problems = Problems()
    read_pbtxt("config.pbtxt", text, problems)
    assert len(problems.errors) == (text != "")
