"""What is in force: flags over the environment over the file, and the options of a model over those of all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from headrace.server.configuration.configuration import Configuration, read_configuration
from headrace.server.configuration.toml_file import ConfigurationFile
from headrace.server.engine.compilation import Compilation
from headrace.server.repository.source import NEWEST, ModelSource, SourceError, VersionPolicy
from headrace.server.settings import Settings
from tests.server.configuration.configured import errors, read


def test_what_was_given_elsewhere_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text("[server]\nwindow = 8\nslots = 2\ncache_dir = 'cache'\n")
    flags = Settings(window=9, port=5)
    configuration = read_configuration(file, flags, {"window": "--window", "port": "HEADRACE_PORT"})
    assert configuration.settings == Settings(window=9, port=5, slots=2, cache_dir=tmp_path / "cache")
    assert configuration.origins == {
        "window": "--window",
        "port": "HEADRACE_PORT",
        "slots": f"{file}:3",
        "cache_dir": f"{file}:4",
    }


def test_options_of_all_models_are_defaults_of_each(tmp_path: Path) -> None:
    text = """
[server]
slots = 2
batch = 8
property = ["A=1", "B=2"]
[models.m]
path = "m.xml"
batch = "off"
properties = { B = "3" }
[models.n]
path = "n.xml"
"""
    m, n = read(tmp_path, text).models(())
    assert m.source.compilation == Compilation(slots=2, batch=1, properties={"A": "1", "B": "3"})
    assert n.source.compilation == Compilation(slots=2, batch=8, properties={"A": "1", "B": "2"})


def test_options_of_a_model_of_the_command_line(tmp_path: Path) -> None:
    configuration = read(tmp_path, "[models.m]\nversions = 'latest 2'\n[models.n]\npath = '/n.xml'\n")
    m, n = configuration.models(["m=folder/other.xml"])
    assert m.source == ModelSource("m", Path("folder/other.xml"), VersionPolicy(latest=2))
    assert n.source == ModelSource("n", Path("/n.xml"), NEWEST)


def test_two_models_of_one_name_are_an_error(tmp_path: Path) -> None:
    text = "[models.m]\npath = 'm.xml'\n"
    (error,) = errors(tmp_path, text, "a/m.xml")
    assert (
        error
        == "headrace.toml:2: models.m.path: two models have the name 'm': the other is a/m.xml, of the command line"
    )
    with pytest.raises(SourceError, match="two models have the name 'm': the other is in '/r/m'") as raised:
        read(tmp_path, text).configure("m", Path("/r/m"))
    assert raised.value.told == "its configuration is not valid"


def test_options_of_a_model_of_the_repository(tmp_path: Path) -> None:
    configuration = read(tmp_path, "[models.m]\nslots = 3\nversions = 'all'\n")
    assert configuration.models((), repository=True) == []
    assert configuration.configure("m", Path("/r/m")) == ModelSource(
        "m", Path("/r/m"), VersionPolicy(), Compilation(slots=3)
    )
    assert configuration.configure("n", Path("/r/n")) == ModelSource("n", Path("/r/n"))


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff[server]\nwindow = 8\n").settings.window == 8
    assert read(tmp_path, '\ufeff{"model_config_list": []}', "config.json").models(()) == []


def test_without_a_file_the_command_line_is_all_there_is() -> None:
    flags = Settings(device="AUTO", batch_delay=0.5)
    configuration = Configuration(ConfigurationFile(), flags, {"device": "--device"})
    assert configuration.settings is not None
    (model,) = configuration.models(["m.xml"])
    assert model.source.compilation == flags.compilation()
    assert {each.name for each in fields(Settings)} >= {*configuration.origins}


def test_a_weight_or_a_priority_divides_the_processor_unless_that_is_off(tmp_path: Path) -> None:
    model = '[models.m]\npath = "m.onnx"\n'
    assert not read(tmp_path, model).shares
    assert read(tmp_path, model + "weight = 3\n").shares
    assert read(tmp_path, model + "priority = 0\n").shares
    assert not read(tmp_path, '[server]\nshare = "off"\n' + model + "weight = 3\n").shares
    assert read(tmp_path, '[server]\nshare = "on"\n' + model).shares
