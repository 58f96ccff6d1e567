"""What clients see of a model, and models that cannot be served."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper

from headrace.server.core.specs import Dimension, ModelSpec, Port
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.models import compile_model
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, NotFound
from tests import models


def load(path: Path, compilation: Compilation | None = None) -> ModelSpec:
    return compile_model(ov.Core(), "m", "7", path, compilation or Compilation()).spec


def show(ports: tuple[Port, ...]) -> list[str]:
    return [f"{' '.join(port.names)} {port}" for port in ports]


def test_ports_are_those_of_the_model_as_read(tmp_path: Path) -> None:
    spec = load(models.add_multiply(tmp_path))
    assert (spec.name, spec.version, spec.has_variables) == ("m", "7", False)
    assert show(spec.inputs) == ["x FP32[?,16]", "y FP32[?,16]"]
    assert show(spec.outputs) == ["sum FP32[?,16]", "product FP32[?,16]"]
    assert [port.index for port in spec.outputs] == [0, 1]


def test_onnx(tmp_path: Path) -> None:
    spec = load(models.onnx_add(tmp_path))
    assert show(spec.inputs) == ["x FP32[?,3]"]
    assert show(spec.outputs) == ["y FP32[?,3]"]


def test_every_name_is_accepted_and_the_first_is_shown(tmp_path: Path) -> None:
    spec = load(models.many_names(tmp_path))
    assert spec.inputs[0].names == ("a", "b", "c")
    assert spec.inputs[0].name == "a"
    assert {spec.input(name).index for name in "abc"} == {0}
    assert {spec.output(name).index for name in "yz"} == {0}


def test_nameless_ports_are_numbered_around_given_names(tmp_path: Path) -> None:
    spec = load(models.nameless(tmp_path))
    assert [port.names for port in spec.inputs] == [("input_0_",), ("input_0",)]
    assert [port.names for port in spec.outputs] == [("output_0",)]


def test_a_shared_name_belongs_to_the_first_port(tmp_path: Path) -> None:
    spec = load(models.passed_through(tmp_path))
    assert [port.names for port in spec.outputs] == [("x",), ("twice",), ("output_2",)]


def test_dimensions(tmp_path: Path) -> None:
    assert load(models.bounded_add_multiply(tmp_path)).inputs[0].shape == (
        Dimension(2, 8),
        Dimension(16, 16),
    )
    assert load(models.scale(tmp_path)).inputs[0].shape == (Dimension(0, -1),)
    assert load(models.static_add_multiply(tmp_path)).inputs[0].static_shape == (1, 16)
    assert load(models.scalar(tmp_path)).inputs[0].static_shape == ()


def test_variables(tmp_path: Path) -> None:
    assert load(models.counter(tmp_path)).has_variables


@pytest.mark.parametrize(
    ("type_name", "datatype"),
    [
        ("boolean", Datatype.BOOL),
        ("u8", Datatype.UINT8),
        ("u16", Datatype.UINT16),
        ("u32", Datatype.UINT32),
        ("u64", Datatype.UINT64),
        ("i8", Datatype.INT8),
        ("i16", Datatype.INT16),
        ("i32", Datatype.INT32),
        ("i64", Datatype.INT64),
        ("f16", Datatype.FP16),
        ("f32", Datatype.FP32),
        ("f64", Datatype.FP64),
        ("bf16", Datatype.BF16),
    ],
)
def test_datatypes(tmp_path: Path, type_name: str, datatype: Datatype) -> None:
    spec = load(models.of_type(tmp_path, type_name))
    assert spec.inputs[0].datatype is datatype
    assert spec.outputs[0].datatype is datatype


@pytest.mark.parametrize("type_name", ["u1", "u4", "i4", "nf4", "f8e4m3", "f8e5m2"])
def test_other_datatypes_are_refused_by_name(tmp_path: Path, type_name: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        load(models.of_type(tmp_path, type_name))
    assert caught.value.message == (
        f"model 'm' cannot be served: input 'in' has elements of type {type_name}, which has no encoding on the wire"
    )


def test_slots(tmp_path: Path) -> None:
    static, dynamic = models.static_add_multiply(tmp_path), models.scale(tmp_path)
    for path in (static, dynamic):
        assert load(path, Compilation(slots=3)).slots == 3
        assert load(path, Compilation(run="direct")).slots == 2  # one thread, and one that waits
    configuration = {"PERFORMANCE_HINT": "THROUGHPUT"}
    streams = ov.Core().compile_model(static, "CPU", configuration).get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    assert load(static, Compilation(run="async", hint="throughput")).slots == 2 * streams
    assert load(dynamic, Compilation(run="async", hint="throughput")).slots == streams + 1


def test_runs_that_compute_at_once_have_the_threads_of_the_processor_together(tmp_path: Path) -> None:
    static, dynamic = models.static_add_multiply(tmp_path), models.scale(tmp_path)
    compiled = ov.Core().compile_model(static, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    streams, threads = compiled.get_property("NUM_STREAMS"), compiled.get_property("INFERENCE_NUM_THREADS")

    def takes(path: Path, compilation: Compilation) -> tuple[int, int]:
        spec = load(path, compilation)
        return spec.streams, spec.threads

    assert takes(static, Compilation(run="async")) == (streams, threads // streams)
    assert takes(static, Compilation(run="async", slots=1)) == (1, threads // streams)
    wide = Compilation(run="async", properties={"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "2"})
    assert takes(static, wide) == (1, 2)
    # Each slot of a dynamic model is a stream of its own, with as many threads as streams of a common model would have.
    assert takes(dynamic, Compilation(run="async")) == (streams + 1, threads // streams)
    assert takes(static, Compilation(run="direct")) == (1, 1)
    # Which device computes is unknown, or its threads are not those of the processor.
    assert load(static, Compilation(device="AUTO", run="async")).threads == 0


def test_weight_and_priority(tmp_path: Path) -> None:
    spec = load(models.scale(tmp_path), Compilation(weight=5, priority=2))
    assert (spec.weight, spec.priority) == (5, 2)
    assert Compilation.from_json(asdict(Compilation(weight=5, priority=2))) == Compilation(weight=5, priority=2)
    for weight in (0, 1001):
        with pytest.raises(ValueError, match=f"the weight of a model is from 1 to 1000, not {weight}"):
            Compilation(weight=weight)
    for priority in (-1, 10):
        with pytest.raises(ValueError, match=f"the priority of a model is from 0 to 9, not {priority}"):
            Compilation(priority=priority)


def test_properties_win_over_the_hint() -> None:
    unpinned = {"ENABLE_CPU_PINNING": "NO"}
    assert Compilation(hint="latency").configuration == {"PERFORMANCE_HINT": "LATENCY", **unpinned}
    assert Compilation(device="GPU").configuration == {"PERFORMANCE_HINT": "THROUGHPUT"}
    assert Compilation(hint="none").configuration == {}
    chosen = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1"}
    assert Compilation(hint="latency", properties=chosen).configuration == {**unpinned, **chosen}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load(tmp_path / "none.xml")
    assert caught.value.message == f"model 'm': file '{tmp_path}/none.xml' does not exist"


def test_a_file_that_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(FailedPrecondition) as caught:
        load(path)
    sentence, _, reason = caught.value.message.partition(f"model 'm' cannot be read from '{path}': ")
    assert not sentence
    assert "Unable to read the model" in reason
    assert "\n" not in reason
    assert "Exception from" not in reason
    assert reason.endswith("; the file is damaged, or is not IR (.xml with .bin), ONNX, TensorFlow, TFLite or Paddle")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_advice_for_models_that_are_not_complete(tmp_path: Path) -> None:
    path = models.wide(tmp_path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(FailedPrecondition, match=r"; its weights belong beside it, in a file .* that ends in \.bin$"):
        load(path)
    node = helper.make_node("Water", ["x"], ["y"], domain="com.example")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "graph", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "water.onnx")
    with pytest.raises(FailedPrecondition, match=r"com\.example\.Water; if .*, name that with --extension$"):
        load(tmp_path / "water.onnx")


@pytest.mark.parametrize(
    "compilation",
    [Compilation(device="ABACUS"), Compilation(properties={"NO_SUCH_PROPERTY": "1"})],
    ids=["device", "property"],
)
def test_models_that_cannot_be_compiled(tmp_path: Path, compilation: Compilation) -> None:
    path = models.scale(tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        load(path, compilation)
    advised = "; the devices of this machine are CPU" in caught.value.message
    assert advised is (compilation.device == "ABACUS")
    sentence = f"model 'm' from '{path}' cannot be compiled for {compilation.device} with "
    assert caught.value.message.startswith(sentence)
    assert (compilation.device if compilation.device != "CPU" else "NO_SUCH_PROPERTY") in caught.value.message[
        len(sentence) :
    ]
    assert isinstance(caught.value.__cause__, RuntimeError)
