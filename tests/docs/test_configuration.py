"""The guide to the configuration has every key, and its examples are valid."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from headrace.server.configuration.model_options import INHERITED, ModelOptions
from headrace.server.configuration.ovms.translation import KINDS
from headrace.server.configuration.problems import Problems
from headrace.server.configuration.toml_file import read_toml
from headrace.server.configuration.triton.parameters import ALREADY_SO, TRANSLATIONS
from headrace.server.configuration.triton.translation import USED
from headrace.server.engine.port_options import InputOptions, OutputOptions
from tests.docs.tour import ROOT

GUIDE = (ROOT / "docs/guide/configuration.md").read_text("utf-8")


def keys(heading: str) -> set[str]:
    """What stands in the first column of the tables below a heading."""
    section = GUIDE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def names_of(options: type) -> set[str]:
    return {each.name for each in fields(options)}


def test_every_option_of_a_model_is_in_the_guide() -> None:
    assert keys("Models") == names_of(ModelOptions)
    assert keys("Inputs") == names_of(InputOptions)
    assert keys("Outputs") == names_of(OutputOptions)
    marked = {*re.findall(r"^\| `(\w+)`\*", GUIDE, re.MULTILINE)}
    assert marked == {*INHERITED}


def test_every_key_of_triton_that_is_used_is_in_the_guide() -> None:
    assert keys("Triton's config.pbtxt") == {path.partition(".")[0] for path in USED} | {*TRANSLATIONS, *ALREADY_SO}


def test_every_key_of_openvino_model_server_is_in_the_guide() -> None:
    assert keys("OpenVINO Model Server's config.json") == {*KINDS}


def test_the_examples_are_valid() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    problems = Problems()
    read_toml("headrace.toml", example, Path("/"), problems)
    assert problems.errors == []
