"""A config.pbtxt means what it means to Triton, or it is an error that names the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from headrace.oip.model_config_pb2 import ModelConfig
from headrace.server.configuration.triton.translation import USED
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.port_options import ExpectedPort, InputOptions, OutputOptions
from headrace.server.repository.source import ModelSource, VersionPolicy
from tests.server.configuration.triton.folders import configured, errors

# Triton's quick start.
DENSENET = """
name: "m"
platform: "onnxruntime_onnx"
max_batch_size : 0
input [
  {
    name: "data_0"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
  }
]
output [
  {
    name: "fc6_1"
    data_type: TYPE_FP32
    dims: [ 1000 ]
    reshape { shape: [ 1, 1000, 1, 1 ] }
    label_filename: "densenet_labels.txt"
  }
]
"""


def test_the_model_of_the_quick_start(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    labels = folder / "densenet_labels.txt"
    labels.write_text("tench\ngoldfish\n")
    assert configured(tmp_path, DENSENET) == ModelSource(
        "m",
        folder,
        compilation=Compilation(
            inputs={"data_0": InputOptions(shape="1,3,224,224", model_layout="NCHW", reshape="3,224,224")},
            outputs={"fc6_1": OutputOptions(labels=str(labels), reshape="1000")},
            expected=(
                ExpectedPort("input", "data_0", f"{folder}/config.pbtxt:6", "FP32", "1,3,224,224"),
                ExpectedPort("output", "fc6_1", f"{folder}/config.pbtxt:15", "FP32", "1,1000,1,1"),
            ),
        ),
    )


def test_what_runs_have(tmp_path: Path) -> None:
    text = """
backend: "openvino"
max_batch_size: 8
version_policy { specific { versions: [1, 3] } }
instance_group [{ count: 2 kind: KIND_CPU }, { name: "other" count: 1 }]
dynamic_batching { preferred_batch_size: [2, 4] max_queue_delay_microseconds: 2500 default_queue_policy {
  max_queue_size: 16 default_timeout_microseconds: 300000 timeout_action: REJECT allow_timeout_override: true } }
default_model_filename: "net.xml"
optimization { execution_accelerators { cpu_execution_accelerator: { name: "openvino" } } }
parameters { key: "NUM_STREAMS" value { string_value: "2" } }
parameters: [{ key: "PERFORMANCE_HINT" value: { string_value: "LATENCY" } },
  { key: "INFERENCE_NUM_THREADS" value: { string_value: "3" } },
  { key: "TARGET_DEVICE" value: { string_value: "AUTO" } },
  { key: "HINT_BF16" value: { string_value: "YES" } },
  { key: "COMPILATION_NUM_THREADS" value: { string_value: "5" } },
  { key: "RESHAPE_IO_LAYERS" value: { string_value: "yes" } }]
model_warmup { name: "w" batch_size: 2 count: 3
  inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }
input { name: "x" data_type: TYPE_STRING dims: -1 }
"""
    source = configured(tmp_path, text)
    assert (source.policy, source.file) == (VersionPolicy(listed=frozenset({1, 3})), "net.xml")
    assert source.compilation == Compilation(
        device="AUTO",
        hint="latency",
        slots=3,
        batch=4,
        batch_delay=0.0025,
        max_queue=16,
        max_queue_seconds=0.3,
        warm_up=3,
        properties={
            "NUM_STREAMS": "2",
            "INFERENCE_NUM_THREADS": "3",
            "INFERENCE_PRECISION_HINT": "bf16",
            "COMPILATION_NUM_THREADS": "5",
        },
        inputs={"*": InputOptions(shape="1..8,..."), "x": InputOptions(shape="1..8,?", warm_up="2,4")},
        expected=(ExpectedPort("input", "x", f"{tmp_path}/m/config.pbtxt:19", "BYTES", "?,?"),),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", VersionPolicy(latest=1)),
        ("version_policy { latest { num_versions: 2 } }", VersionPolicy(latest=2)),
        ("version_policy: { all { } }", VersionPolicy()),
    ],
)
def test_version_policies(tmp_path: Path, text: str, policy: VersionPolicy) -> None:
    assert configured(tmp_path, text).policy == policy


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        ("max_batch_size: 8", None),
        ("max_batch_size: 1", 1),
        ("max_batch_size: 8 dynamic_batching { }", 8),
        ("max_batch_size: 500 dynamic_batching { }", 64),
    ],
)
def test_rows_of_a_run(tmp_path: Path, text: str, batch: int | None) -> None:
    assert configured(tmp_path, text).compilation.batch == batch


def test_sequences_keep_the_state(tmp_path: Path) -> None:
    assert configured(tmp_path, "sequence_batching { }").compilation.state == "sequence"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('name: "n"', "1: name: the model is called 'm', not 'n'"),
        ('\nbackend: "python"', "2: backend: models of 'python' cannot be read; Headrace reads those of openvino, "),
        ('platform: "tensorrt_plan"', "1: platform: models of 'tensorrt_plan' cannot be read; Headrace reads those of"),
        (
            "instance_group [\n{ kind: KIND_GPU }]",
            "2: instance_group[0].kind: Headrace has no KIND_GPU; set the device of",
        ),
        ("instance_group { count: 5000 }", "1: models.m.slots: must be <= 1024"),
        ("max_batch_size: -1", "1: max_batch_size: it is negative"),
        ("dynamic_batching { }", "1: dynamic_batching: it needs max_batch_size"),
        (
            "max_batch_size: 2\ndynamic_batching { preferred_batch_size: [ 2,\n 3 ] }",
            "3: dynamic_batching.preferred_batch_size[1]: 3 is not from 1 to max_batch_size",
        ),
        (
            "max_batch_size: 2\ndynamic_batching { default_queue_policy {\n timeout_action: DELAY } }",
            "3: dynamic_batching.default_queue_policy.timeout_action: Headrace refuses what has waited too long, and",
        ),
        ('input { name: "x" format: FORMAT_NHWC dims: [3] }', "1: input[0].format: it needs three dims, without the"),
        ("input { dims: [3] }", "1: input[0]: it has no name"),
        ('input [{ name: "x" },\n { name: "x" }]', "2: input[1].name: two have the name 'x'"),
        ('output { name: "y"\n label_filename: "none.txt" }', "2: output[0].label_filename: file '"),
        ('output { name: "y" label_filename: "../y" }', "1: output[0].label_filename: '../y' is not in the folder of"),
        ('input { name: "x"\n data_type: 99 }', "2: input[0].data_type: no value has this number"),
        ('input { name: "x" dims: [1, 2, 3] format: 99 }', "1: input[0].format: no value has this number"),
        ("\ninstance_group { kind: 99 }", "2: instance_group[0].kind: no value has this number"),
        (r'parameters { key: "\x4" value { } }', "1: parameters."),
        ('default_model_filename: "/etc/x"', "1: default_model_filename: '/etc/x' is not in the folder of the model"),
        ("version_policy { specific { versions: 0 } }", "1: models.m.versions: "),
        (
            'parameters { key: "A" value { string_value: "1" } }\nparameters { key: "execution_mode" value { } }',
            "1: parameters.A: Headrace does not have this; with --lenient this is ignored",
        ),
        (
            'parameters { key: "NUM_STREAMS" value { string_value: "x" } }',
            "1: parameters.NUM_STREAMS: 'x' is not a value",
        ),
        (
            'model_warmup { inputs { key: "x"\n value { dims: 1\n random_data: true } } }',
            "3: model_warmup[0].inputs.x.value.random_data: zeros warm a model up, not random numbers; with --lenient",
        ),
        ("max_batchsize: 8", "1: max_batchsize: unknown key; did you mean 'max_batch_size'?"),
        ("input {\n name: 'x' data_typ: TYPE_FP32 }", "2: data_typ: unknown key; did you mean 'data_type'?"),
        ("name: 5", "1: it is not a ModelConfig in protobuf's text format: "),
        ("\n\ninput [", "3: it is not a ModelConfig in protobuf's text format: "),
    ],
)
def test_what_is_wrong_has_line_and_key(tmp_path: Path, text: str, error: str) -> None:
    assert errors(tmp_path, text)[0].startswith(error)


def test_all_errors_are_reported(tmp_path: Path) -> None:
    text = 'name: "n"\nbackend: "python"\noptimization { cuda { graphs: true } }\nmetric_tags { key: "a" value: "b" }\n'
    assert [error.split(": ")[:2] for error in errors(tmp_path, text)] == [
        ["4", "metric_tags.a"],
        ["3", "optimization.cuda.graphs"],
        ["1", "name"],
        ["2", "backend"],
    ]


def test_lenient_warns_about_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "instance_group { kind: KIND_MODEL count: 2 }\nresponse_cache { enable: true }\n"
    assert configured(tmp_path, text, lenient=True).compilation.slots == 2
    warned = [record.getMessage().removeprefix(f"{tmp_path}/m/") for record in caplog.records]
    assert warned == [
        "config.pbtxt:2: response_cache.enable: Headrace does not have this; this is ignored",
        "config.pbtxt:1: instance_group[0].kind: Headrace has no KIND_MODEL; this is ignored",
    ]


def test_nothing_that_triton_has_is_ignored_in_silence(tmp_path: Path) -> None:
    """Every field of a ModelConfig is used or reported, whatever message it is in."""
    checked = 0
    for path, config in every_field():
        if path in USED:
            continue
        found = "\n".join(errors(tmp_path, text_format.MessageToString(config)))
        # The report may name the message around it.
        names = path.split(".")
        assert any(f": {'.'.join(names[:length])}" in without_indices(found) for length in range(1, len(names) + 1)), (
            path
        )
        checked += 1
    assert checked > 85


def without_indices(text: str) -> str:
    for index in ("[0]", ".k.value", ".k"):
        text = text.replace(index, "")
    return text


def every_field(descriptor: Descriptor = ModelConfig.DESCRIPTOR) -> Iterator[tuple[str, ModelConfig]]:
    """The path of each field that holds a value, and a ModelConfig in which it alone is set."""
    for fields in paths(descriptor):
        config = ModelConfig()
        message: Message = config
        for field in fields[:-1]:
            message = entered(message, field)
        set_value(message, fields[-1])
        yield ".".join(field.name for field in fields), config


def paths(descriptor: Descriptor, above: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            inner = inner.fields_by_name["value"].message_type
        if inner is None:
            yield (*above, field)
        else:
            yield from paths(inner, (*above, field))


def entered(message: Message, field: FieldDescriptor) -> Message:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return value[key_of(field)]  # type: ignore[no-any-return]  # a message
    if field.is_repeated:
        return value.add()  # type: ignore[no-any-return]  # a message
    value.SetInParent()
    return value  # type: ignore[no-any-return]  # a message


def set_value(message: Message, field: FieldDescriptor) -> None:
    if field.message_type is not None:
        getattr(message, field.name)[key_of(field)] = "v"
    elif field.is_repeated:
        getattr(message, field.name).append(value_of(field))
    else:
        setattr(message, field.name, value_of(field))


def key_of(field: FieldDescriptor) -> object:
    assert field.message_type is not None
    key = field.message_type.fields_by_name["key"]
    return "k" if key.cpp_type == FieldDescriptor.CPPTYPE_STRING else 1


def value_of(field: FieldDescriptor) -> object:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "v"
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    return True if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 1
