"""A config.json means what it means to OpenVINO Model Server, or it is an error that names the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.server.configuration.ovms.translation import KINDS
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import ExpectedPort, InputOptions
from headrace.server.repository.source import ModelSource, VersionPolicy
from tests.server.configuration.configured import errors, read


def write(config: dict[str, Any]) -> str:
    """A config.json with one model, each key on a line of its own from the fifth on."""
    return json.dumps({"model_config_list": [{"config": {"name": "m", "base_path": "models/m", **config}}]}, indent=1)


def configured(folder: Path, config: dict[str, Any]) -> ModelSource:
    (model,) = read(folder, write(config), "config.json").models(())
    return model.source


def test_the_models_of_the_documentation(tmp_path: Path) -> None:
    text = """
{
   "model_config_list":[
      {"config":{"name":"model_name1", "base_path":"/opt/ml/models/model1", "batch_size": "16",
            "model_version_policy": {"all": {}}}},
      {"config":{"name":"resnet", "base_path":"models/resnet",
            "model_version_policy": {"specific": { "versions":[1, 3] }}}},
      {"config":{"name":"model_name4", "base_path":"model4",
             "shape": {"input1": "(1,3,200,200)", "input2": "(1,3,50,50)"},
             "plugin_config": {"PERFORMANCE_HINT": "THROUGHPUT"}}}
   ]
}
"""
    first, resnet, fourth = (model.source for model in read(tmp_path, text, "config.json").models(()))
    assert first == ModelSource(
        "model_name1",
        Path("/opt/ml/models/model1"),
        VersionPolicy(),
        Compilation(inputs={"*": InputOptions(shape="16,...")}),
    )
    assert resnet == ModelSource("resnet", tmp_path / "models/resnet", VersionPolicy(listed=frozenset({1, 3})))
    assert fourth == ModelSource(
        "model_name4",
        tmp_path / "model4",
        VersionPolicy(latest=1),
        Compilation(
            inputs={"input1": InputOptions(shape="1,3,200,200"), "input2": InputOptions(shape="1,3,50,50")},
            properties={"PERFORMANCE_HINT": "THROUGHPUT"},
            expected=(
                ExpectedPort("input", "input1", f"{tmp_path}/config.json:9"),
                ExpectedPort("input", "input2", f"{tmp_path}/config.json:9"),
            ),
        ),
    )


def test_what_runs_have(tmp_path: Path) -> None:
    config = {
        "target_device": "AUTO",
        "nireq": 4,
        "allow_cache": True,
        "stateful": True,
        "idle_sequence_cleanup": True,
        "low_latency_transformation": False,
        "plugin_config": {"NUM_STREAMS": 2, "ENABLE_CPU_PINNING": False, "PERFORMANCE_HINT": "LATENCY"},
    }
    properties = {"NUM_STREAMS": "2", "ENABLE_CPU_PINNING": "NO", "PERFORMANCE_HINT": "LATENCY"}
    assert configured(tmp_path, config).compilation == Compilation(
        device="AUTO", slots=4, state="sequence", properties=properties
    )


@pytest.mark.parametrize(
    ("config", "options", "datatype"),
    [
        ({"shape": "(1,3,200:500,-1)"}, InputOptions(shape="1,3,200..500,?"), ""),
        ({"shape": "auto"}, InputOptions(shape="dynamic"), ""),
        ({"layout": "NHWC:NCHW"}, InputOptions(layout="NHWC", model_layout="NCHW"), ""),
        ({"layout": "nchw"}, InputOptions(model_layout="NCHW"), ""),
        ({"precision": "uint8:fp32"}, InputOptions(datatype="UINT8"), "FP32"),
        ({"color_format": "BGR:RGB"}, InputOptions(colour="RGB", model_colour="BGR"), ""),
        ({"mean": "(1,2.5,3)", "scale": 2}, InputOptions(mean=(1, 2.5, 3), scale=(2,)), ""),
        ({"mean": [1, 2], "scale": "[3]"}, InputOptions(mean=(1, 2), scale=(3,)), ""),
    ],
)
def test_what_is_said_about_the_only_input(
    tmp_path: Path, config: dict[str, Any], options: InputOptions, datatype: str
) -> None:
    compilation = configured(tmp_path, config).compilation
    assert compilation.inputs == {"*": options}
    first = ExpectedPort("input", "*", f"{tmp_path}/config.json:7", datatype)
    assert compilation.expected[0] == first


def test_layouts_by_name_and_a_batch_size_for_all(tmp_path: Path) -> None:
    config = {"layout": {"a": "NHWC:NCHW"}, "batch_size": "1:8"}
    assert configured(tmp_path, config).compilation.inputs == {
        "*": InputOptions(shape="1..8,..."),
        "a": InputOptions(shape="1..8,...", layout="NHWC", model_layout="NCHW"),
    }


def test_preprocessing_of_the_one_input_that_is_named(tmp_path: Path) -> None:
    config = {"layout": {"a": "NHWC:NCHW"}, "mean": 1.5}
    assert configured(tmp_path, config).compilation.inputs == {
        "a": InputOptions(layout="NHWC", model_layout="NCHW", mean=(1.5,))
    }


def test_a_shape_comes_before_a_batch_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"batch_size": 4, "shape": "(1,3)"}
    assert configured(tmp_path, config).compilation.inputs == {"*": InputOptions(shape="1,3")}
    assert "config.json:7: model_config_list[0].config.batch_size: shape comes first" in caplog.text


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"batch_sise": 4}, "batch_sise: unknown key; did you mean 'batch_size'?"),
        ({"batch_size": True}, "batch_size: input should be a valid integer"),
        ({"batch_size": "many"}, "batch_size: 'many' is not a dimension: 16, -1, 1:8 or auto is expected"),
        ({"batch_size": 4, "layout": {"a": "CN"}}, "batch_size: the first axis of layout CN is not that of the batch"),
        ({"base_path": "s3://b/m"}, "base_path: 's3://b/m' is not a local path; Headrace has no cloud storage"),
        ({"shape": "1,3"}, "shape: '1,3' is not a shape: one such as (1,3,224,224), or auto, is expected"),
        ({"shape": {"a": "(x)"}}, "shape.a: 'x' is not a dimension: 16, -1, 1:8 or auto is expected"),
        ({"shape": {"a": 3}}, "shape.a: input should be a valid string"),
        ({"layout": "N?C"}, "layout: 'N?C' is not a layout with a letter for each axis, such as NHWC"),
        ({"mean": "x"}, "mean: 'x' is not a number or a tuple of numbers, such as (123.7,116.3,103.5)"),
        ({"color_format": "NV12:RGB"}, "color_format: 'NV12:RGB' is not two of RGB, BGR, GRAY, such as BGR:RGB"),
        ({"precision": "fp32"}, "precision: 'fp32' is not two datatypes of BF16, "),
        ({"precision": "int4:fp32"}, "precision: 'int4:fp32' is not two datatypes of BF16, "),
        ({"model_version_policy": {"newest": {}}}, 'model_version_policy: {"latest": {"num_versions": 2}}, '),
        ({"model_version_policy": {"specific": {"versions": [0]}}}, 'model_version_policy: {"latest": '),
        ({"plugin_config": "["}, "plugin_config: '[' is not valid JSON: Expecting value"),
        ({"plugin_config": "[" * 5000}, "plugin_config: it is not valid JSON: it is nested too deeply"),
        ({"model_version_policy": "[" * 5000}, "model_version_policy: it is not valid JSON: it is nested too deeply"),
        ({"layout": ":"}, "layout: '' is not a layout with a letter for each axis, such as NHWC"),
        ({"shape": "(\u0663)"}, "shape: '\u0663' is not a dimension: 16, -1, 1:8 or auto is expected"),
        ({"base_path": ""}, "base_path: string should have at least 1 character"),
        ({"plugin_config": {"\ud800": 1}}, "plugin_config: it is nested too deeply, or has half of a character"),
        ({"plugin_config": {"DEVICE_PROPERTIES": {}}}, "plugin_config.DEVICE_PROPERTIES: Headrace takes strings, "),
        ({"nireq": 5000}, "models.m.slots: must be <= 1024"),
        ({"nireq": -1}, "nireq: input should be greater than or equal to 0"),
        ({"allow_cache": False}, "allow_cache: all compiled models are kept if there is a --cache-dir; with --lenient"),
        ({"low_latency_transformation": True}, "low_latency_transformation: Headrace does not transform loops; with"),
        (
            {"max_sequence_number": 5},
            "max_sequence_number: the number of sequences is bounded for all models together; ",
        ),
        ({"graph_path": "g"}, "graph_path: Headrace has no MediaPipe graphs; with --lenient this is ignored"),
        (
            {"custom_loader_options": {"loader_name": "x"}},
            "custom_loader_options: Headrace has no custom loaders; with",
        ),
        (
            {"mean": 1, "shape": {"a": "(1)", "b": "(1)"}},
            "mean: this is for a model with one input, but there are a, b",
        ),
    ],
)
def test_what_is_wrong_has_line_and_key(tmp_path: Path, config: dict[str, Any], error: str) -> None:
    first = errors(tmp_path, write(config), name="config.json")[0]
    place, _, rest = first.partition(": ")
    assert place.startswith("config.json:")
    assert int(place.partition(":")[2]) >= 6
    assert rest.removeprefix("model_config_list[0].config.").startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "config.json:1: it is not valid JSON: Expecting property name"),
        ('{"a": ' + "[" * 5000, "config.json:1: it is not valid JSON: it is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "config.json:1: it is not valid JSON: an integer has too many digits"),
        (
            '{\n"model_config_list": [],\n "model_config_list": []}',
            "config.json:3: model_config_list: the same key is on line 2",
        ),
        ("{}", "config.json:1: model_config_list: this key is missing"),
        ('{"model_config_list": {}}', "config.json:1: model_config_list: a list is expected"),
        (
            '{"model_config_list": [\n{}]}',
            "config.json:2: model_config_list[0]: an object with the one key 'config' is",
        ),
        (
            '{"model_config_list": [{"config": {"base_path": "x"}}]}',
            "config.json:1: model_config_list[0].config.name: a name",
        ),
        (
            '{"model_config_list": [],\n"pipeline_config_list": [{}]}',
            "config.json:2: pipeline_config_list: Headrace has no pipelines; clients chain inferences by ticket; with",
        ),
        (
            '{"model_config_list": [],\n"mediapipe_config_list": [{}]}',
            "config.json:2: mediapipe_config_list: Headrace has",
        ),
        ('{"model_config_list": [],\n"custom_loader_config_list": [{}]}', "config.json:2: custom_loader_config_list: "),
        ('{"model_config_list": [],\n"monitoring": {"metrics": {"enable": true}}}', "config.json:2: monitoring: "),
        ('{"model_config_list": [],\n"monitoring": {"metrics": 5}}', "config.json:2: monitoring: "),
        ('{"model_config_lst": []}', "config.json:1: model_config_lst: unknown key; did you mean 'model_config_list'?"),
        (
            '{"model_config_list": [{"config": {"name": "m", "base_path": "a"}},\n{"config": {\n"name": "m"}}]}',
            "config.json:3: model_config_list[1].config.name: two models have the name 'm': the other is at config.js",
        ),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path: Path, text: str, error: str) -> None:
    assert errors(tmp_path, text, name="config.json")[0].startswith(error)


@pytest.mark.parametrize("name", ["graph.pbtxt", "1/mapping_config.json"])
def test_files_that_change_what_a_folder_means(tmp_path: Path, name: str) -> None:
    file = tmp_path / "models/m" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    (error,) = errors(tmp_path, write({}), name="config.json")
    assert error.startswith("config.json:6: model_config_list[0].config.base_path: Headrace has no ")


def test_every_key_is_used_or_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each key changes what is configured, or there is an error."""
    plain = configured(tmp_path, {})
    values = {
        "batch_size": 4,
        "shape": "(1)",
        "layout": "NHWC:NCHW",
        "mean": 1,
        "scale": 1,
        "color_format": "BGR:RGB",
        "precision": "uint8:fp32",
        "model_version_policy": {"all": {}},
        "target_device": "AUTO",
        "plugin_config": {"A": 1},
        "nireq": 3,
        "stateful": True,
    }
    for name, value in values.items():
        assert configured(tmp_path, {name: value}) != plain, name
    unsupported = {
        "allow_cache": False,
        "low_latency_transformation": True,
        "max_sequence_number": 3,
        "graph_path": "g",
        "subconfig": "s",
        "custom_loader_options": {"loader_name": "l"},
    }
    for name, value in unsupported.items():
        assert name in errors(tmp_path, write({name: value}), name="config.json")[0]
    assert (
        "idle_sequence_cleanup"
        in errors(tmp_path, write({"stateful": True, "idle_sequence_cleanup": False}), name="config.json")[0]
    )
    assert {*values, *unsupported, "name", "base_path", "idle_sequence_cleanup"} == {*KINDS}
