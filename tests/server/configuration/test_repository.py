"""Models in a repository: what their folders and the file say of them, and that nothing outside is opened."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest

from headrace.server.configuration.configuration import Configuration, read_configuration
from headrace.server.configuration.printing import as_toml
from headrace.server.configuration.toml_file import ConfigurationFile
from headrace.server.repository.scan import Disk, FoundModel
from headrace.server.settings import Settings


def scan(repository: Path) -> dict[str, FoundModel]:
    configuration = Configuration(ConfigurationFile(), Settings(), {})
    return dict(Disk((), [repository], configuration.configure).scan().models)


def write(folder: Path, text: str) -> Path:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_text("")
    (folder / "config.pbtxt").write_text(text)
    return folder


def test_a_wrong_configuration_is_a_problem_of_its_model_alone(tmp_path: Path) -> None:
    write(tmp_path / "bad", 'backend: "python"')
    write(tmp_path / "good", "instance_group { count: 3 }")
    found = scan(tmp_path)
    assert f"{tmp_path}/bad/config.pbtxt:1: backend: models of 'python' cannot be read" in str(found["bad"].problem)
    assert found["bad"].problem is not None
    assert found["bad"].problem.told == "its configuration is not valid"
    assert found["good"].versions[1].model.compilation.slots == 3


def test_a_version_has_changed_when_its_configuration_or_its_labels_have(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", 'output { name: "y" label_filename: "l.txt" }')
    (folder / "l.txt").write_text("a\n")
    before = scan(tmp_path)["m"].versions[1]
    assert scan(tmp_path)["m"].versions[1] == before
    (folder / "l.txt").write_text("a\nb\n")
    labelled = scan(tmp_path)["m"].versions[1]
    assert labelled != before
    (folder / "config.pbtxt").write_text("instance_group { count: 3 }")
    assert scan(tmp_path)["m"].versions[1] != labelled


@pytest.mark.parametrize("link", ["config.pbtxt", "l.txt"])
def test_no_file_of_a_configuration_leads_out(tmp_path: Path, link: str) -> None:
    """And nothing of it is opened before that is known."""
    outside = tmp_path / "outside"
    outside.write_text("secret: 1\n")
    folder = write(tmp_path / "repository" / "m", 'output { name: "y" label_filename: "l.txt" }')
    (folder / link).unlink(missing_ok=True)
    (folder / link).symlink_to(outside)
    opened: list[str] = []
    hook_is_on = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if hook_is_on and event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.append(os.path.realpath(arguments[0]))

    sys.addaudithook(hook)
    model = scan(tmp_path / "repository")["m"]
    hook_is_on = False
    problem = model.problem or model.problems[1]
    assert "leads out of the repository" in str(problem)
    assert "secret" not in str(problem)
    assert str(outside) not in opened


def test_what_is_printed_of_a_repository_means_the_same(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write(repository / "m", 'max_batch_size: 4 input { name: "x" dims: 3 } version_policy { all { } }')
    file = tmp_path / "headrace.toml"
    file.write_text("[server]\nrepository = ['repository']\n[models.m]\nslots = 2\n")
    first = read_configuration(file, Settings(), {})
    printed = as_toml(first, first.models_in(repository))
    assert f'versions = "all"  # {repository}/m/config.pbtxt:1' in printed
    assert "path" not in tomllib.loads(printed)["models"]["m"]
    file.write_text(printed)
    second = read_configuration(file, Settings(), {})
    assert second.settings == first.settings == Settings(repository=(repository,))
    before, after = (each.configure("m", repository / "m") for each in (first, second))
    assert (after.policy, after.compilation.inputs, after.compilation.slots) == (
        before.policy,
        before.compilation.inputs,
        2,
    )


def test_a_table_comes_over_a_config_pbtxt(tmp_path: Path) -> None:
    """By what it says: one with nothing in it takes nothing away."""
    folder = write(
        tmp_path / "m",
        'input { name: "x" dims: 3 } input { name: "y" dims: 3 } '
        'parameters { key: "NUM_STREAMS" value { string_value: "NUMA" } }',
    )
    file = tmp_path / "headrace.toml"
    file.write_text("[models.m.inputs.x]\n[models.m.outputs]\n")
    source = read_configuration(file, Settings(), {}).configure("m", folder)
    assert source.compilation.properties == {"NUM_STREAMS": "NUMA"}
    assert {name: port.shape for name, port in source.compilation.inputs.items()} == {"x": "3", "y": "3"}
    file.write_text("[models.m]\nstreams = 2\ninputs = {}\n")
    source = read_configuration(file, Settings(), {}).configure("m", folder)
    assert source.compilation.properties == {"NUM_STREAMS": "2"}
    assert {*source.compilation.inputs} == {"x", "y"}
