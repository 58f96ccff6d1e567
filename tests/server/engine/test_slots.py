"""The inputs and outputs of runs, in one slot unless a test says otherwise."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.server.core.calls import Zeros
from headrace.server.core.engine_api import Tensor
from headrace.server.engine import outputs
from headrace.server.engine.slots import Slot
from headrace.server.engine.tensors import MAX_COPIED_BYTES, OutputTensor
from headrace.wire.dtypes import Datatype, numpy_dtype
from tests import models
from tests.interpreted import interpreted
from tests.server.engine import row_models
from tests.server.engine.driver import Array, Driver, Piece, address, array, arrays, f32, make, of, piece, plan, row

LARGE = MAX_COPIED_BYTES // 4 + 1
"""Elements of f32 that make a large tensor."""


def input_address(slot: Slot, index: int = 0) -> int:
    return int(slot._request.get_input_tensor(index).data.ctypes.data)


def test_outputs_come_in_the_requested_order(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path))
    inputs = {"y": row(3), "x": row(4)}
    assert [a[0, 0] for a in arrays(driver.infer(spec, inputs).sent)] == [7, 12]
    ended = driver.infer(spec, inputs, outputs=["product", "sum"])
    assert [a[0, 0] for a in arrays(ended.sent)] == [12, 7]
    ended = driver.infer(spec, inputs, outputs=["product"], keep=["sum", "product"])
    assert [a[0, 0] for a in arrays(ended.sent)] == [12]
    assert [a[0, 0] for a in arrays(ended.kept)] == [7, 12]
    assert ended.sent[0] is ended.kept[1]


def test_only_what_is_still_wanted_is_kept(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path))
    part = piece(spec, {"x": row(4), "y": row(3)}, outputs=[], keep=["sum", "product"])
    part.keep = (1,)
    ended = driver.run(of(part))
    assert not ended.sent
    assert [a[0, 0] for a in arrays(ended.kept)] == [12]


@pytest.mark.parametrize("keep", [[], ["large"]], ids=["sent", "kept"])
def test_an_output_survives_later_runs(driver: Driver, tmp_path: Path, keep: list[str]) -> None:
    spec = driver.load(models.wide(tmp_path))
    ended = driver.infer(spec, {"x": row(1)}, outputs=[] if keep else ["large"], keep=keep)
    (large,) = (*ended.sent, *ended.kept)
    expected = np.broadcast_to(np.arange(1024, dtype=np.float32)[:, None] + 16, (1024, 1024))
    later = make(spec, {"x": row(2)}, outputs=["small"])
    for _ in range(1000):
        small = driver.run(later).sent[0]
    assert (array(small) == 4).all()
    assert (array(large) == expected).all()


def test_a_small_kept_output_survives_later_runs(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path))
    kept = driver.infer(spec, {"x": row(1), "y": row(2)}, outputs=[], keep=["sum"]).kept[0]
    later = make(spec, {"x": row(3), "y": row(4)}, outputs=["product"])
    for _ in range(1000):
        assert (array(driver.run(later).sent[0]) == 12).all()
    assert (array(kept) == 3).all()


@interpreted
def test_outputs_that_were_not_requested_are_not_read(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = driver.load(models.wide(tmp_path))
    read: list[tuple[int, ...]] = []

    def counted(datatype: Any, shape: tuple[int, ...], data: Any) -> OutputTensor:
        read.append(shape)
        return OutputTensor(datatype, shape, data)

    monkeypatch.setattr(outputs, "OutputTensor", counted)
    driver.infer(spec, {"x": row(1)}, outputs=[])
    assert read == []
    driver.infer(spec, {"x": row(1)}, outputs=["small"])
    assert read == [(1, 16)]
    driver.infer(spec, {"x": row(1)}, outputs=["small"], keep=["small"])
    assert read == [(1, 16)] * 2


def test_large_outputs_are_written_where_they_stay(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.wide(tmp_path))
    scratch = driver.slot(spec)._outputs._scratch[1].data.ctypes.data
    first = driver.infer(spec, {"x": row(1)}, outputs=["large"]).sent[0]
    assert address(first.read()) == scratch
    second = driver.infer(spec, {"x": row(2)}, outputs=["large"]).sent[0]
    assert address(second.read()) != scratch
    assert array(first)[0, 0] == 16
    assert array(second)[0, 0] == 32


@pytest.mark.parametrize("count", [0, 1, 5, LARGE, 3, LARGE * 10, 2])
def test_dynamic_outputs(driver: Driver, tmp_path: Path, count: int) -> None:
    spec = driver.load(models.scale(tmp_path))
    x = np.arange(count, dtype=np.float32)
    ended = driver.infer(spec, {"x": x}, keep=["y"])
    assert ended.sent[0].shape == (count,)
    assert ended.sent[0].nbytes == count * 4
    assert (array(ended.sent[0]) == 2 * x + 1).all()


def test_dynamic_outputs_grow_and_shrink(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    runs = []
    for count in (1, 100_000, 0, 20_000, 5, 300_000, 1):
        x = np.full(count, count, np.float32)
        runs.append((x, driver.infer(spec, {"x": x}, outputs=[], keep=["y"]).kept[0]))
        driver.infer(spec, {"x": f32(1, 2, 3)}, outputs=[])
    for x, kept in runs:
        assert kept.shape == x.shape
        assert (array(kept) == 2 * x + 1).all()


def test_shapes_that_depend_on_data(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.repeated(tmp_path))
    for times in (2, 0, 9, 1):
        inputs = {"x": f32(1, 2, 3), "times": np.array([times])}
        y = array(driver.infer(spec, inputs).sent[0])
        assert np.array_equal(y, np.tile(f32(1, 2, 3), (times, 1)))


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_kept_output_does_not_pin_a_larger_ones_memory(
    driver: Driver,
    tmp_path: Path,
    cancelled: bool,
) -> None:
    spec = driver.load(models.scale(tmp_path))
    run = make(spec, {"x": np.zeros(1 << 20, np.float32)}, outputs=["y"] if cancelled else [])
    driver.engine.start(run)
    assert driver.woken.wait(30)
    if cancelled:
        driver.engine.cancel(run)
    driver.wait()
    grown = driver.slot(spec)._outputs._scratch[0].data  # held, so that nothing else gets this memory
    kept = driver.infer(spec, {"x": np.zeros(LARGE, np.float32)}, outputs=[], keep=["y"]).kept[0]
    assert address(kept.read()) != grown.ctypes.data


def test_a_kept_output_does_not_pin_one_that_was_not_read(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(row_models.total(tmp_path))
    assert array(driver.infer(spec, {"x": np.ones(1 << 20, np.float32)}, outputs=["total"]).sent[0]) == 1 << 20
    grown = driver.slot(spec)._outputs._scratch[0].data  # held, so that nothing else gets this memory
    kept = driver.infer(spec, {"x": np.zeros(LARGE, np.float32)}, outputs=[], keep=["more"]).kept[0]
    assert address(kept.read()) != grown.ctypes.data


def test_bounded_dimensions(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.bounded_add_multiply(tmp_path))
    for rows in (3, 8, 2):
        x = np.arange(rows * 16, dtype=np.float32).reshape(rows, 16)
        total, product = arrays(driver.infer(spec, {"x": x, "y": x}).sent)
        assert (total == x + x).all()
        assert (product == x * x).all()


def test_scalars_and_empty_tensors(driver: Driver, tmp_path: Path) -> None:
    scalar = driver.load(models.scalar(tmp_path))
    ended = driver.infer(scalar, {"x": np.array(2.5, np.float32)}, keep=["next"])
    assert ended.sent[0].shape == ()
    assert array(ended.sent[0]) == 3.5
    spec = driver.load(models.add_multiply(tmp_path))
    empty = np.zeros((0, 16), np.float32)
    ended = driver.infer(spec, {"x": empty, "y": empty})
    assert [tensor.shape for tensor in ended.sent] == [(0, 16)] * 2
    assert [bytes(tensor.read()) for tensor in ended.sent] == [b""] * 2


EXACT: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "boolean": lambda rng, n: rng.integers(0, 2, n).astype(np.bool_),
    "u8": lambda rng, n: rng.integers(0, 1 << 8, n, np.uint8),
    "u16": lambda rng, n: rng.integers(0, 1 << 16, n, np.uint16),
    "u32": lambda rng, n: rng.integers(0, 1 << 32, n, np.uint32),
    "i8": lambda rng, n: rng.integers(-(1 << 7), 1 << 7, n, np.int8),
    "i16": lambda rng, n: rng.integers(-(1 << 15), 1 << 15, n, np.int16),
    "i32": lambda rng, n: rng.integers(-(1 << 31), 1 << 31, n, np.int32),
    # The CPU plugin computes 64-bit elements in 32 bits.
    "u64": lambda rng, n: rng.integers(0, 1 << 31, n, np.uint64),
    "i64": lambda rng, n: rng.integers(-(1 << 31), 1 << 31, n, np.int64),
    "f64": lambda rng, n: rng.standard_normal(n, np.float32).astype(np.float64),
    "f16": lambda rng, n: rng.standard_normal(n).astype(np.float16),
    "f32": lambda rng, n: rng.standard_normal(n, np.float32),
}


@pytest.mark.parametrize("type_name", [*EXACT, "bf16"])
def test_every_datatype_bit_for_bit(driver: Driver, tmp_path: Path, type_name: str) -> None:
    spec = driver.load(models.identity(tmp_path, type_name))
    rng = np.random.default_rng(5)
    dtype = numpy_dtype(spec.inputs[0].datatype)
    for count in (1, 7, MAX_COPIED_BYTES, 0):
        x = EXACT.get(type_name, EXACT["f32"])(rng, count).astype(dtype)
        ended = driver.infer(spec, {"x": x}, keep=["same"])
        for tensor in (*ended.sent, *ended.kept):
            assert tensor.datatype is spec.inputs[0].datatype
            assert tensor.shape == (count, 1)
            assert bytes(tensor.read()) == x.tobytes()


@pytest.mark.parametrize("count", [3, MAX_COPIED_BYTES])
def test_inputs_passed_through_do_not_change(driver: Driver, tmp_path: Path, count: int) -> None:
    spec = driver.load(models.passed_through(tmp_path))
    firsts: list[Tensor] = []
    for value in (1 << 40, 3, -5):
        x = np.full(count, value, np.int64)
        ended = driver.infer(spec, {"x": x}, keep=["x", "twice"])
        passed, *twice = arrays(ended.sent)
        assert (passed == x).all()
        if value < 1 << 31:
            assert all((a == 2 * x).all() for a in twice)
        firsts.append(ended.kept[0])
    first = firsts[0]
    assert (array(first) == 1 << 40).all()
    again = driver.infer(spec, {"x": first}, outputs=["x"]).sent[0]
    assert again.read() == first.read()


@pytest.mark.parametrize("count", [3, MAX_COPIED_BYTES])
def test_inputs_of_zeros(driver: Driver, tmp_path: Path, count: int) -> None:
    spec = driver.load(models.scale(tmp_path))
    driver.infer(spec, {"x": np.ones(count, np.float32)})
    ended = driver.infer(spec, {"x": Zeros("x", Datatype.FP32, (count,))})
    assert (array(ended.sent[0]) == np.ones(count, np.float32)).all()


def test_variables_are_reset_before_each_run(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.counter(tmp_path))
    for value in (1, 2, 3):
        assert array(driver.infer(spec, {"x": f32(value)}).sent[0]) == value


def test_chains_without_a_copy(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.large_scale(tmp_path), slots=2)
    source = driver.infer(spec, {"x": np.ones(1 << 20, np.float32)}, outputs=[], keep=["y"]).kept[0]
    end = driver.infer(spec, {"x": source}, slot=1)
    assert input_address(driver.slot(spec, 1)) == address(source.read())
    assert (array(end.sent[0]) == 7).all()
    assert (array(source) == 3).all()


def test_a_small_chain(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    tensor = driver.infer(spec, {"x": f32(1, 0)}, outputs=[], keep=["y"]).kept[0]
    for _ in range(5):
        tensor = driver.infer(spec, {"x": tensor}, outputs=[], keep=["y"]).kept[0]
    assert array(tensor).tolist() == [127, 63]


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_large_inputs_are_used_in_place(driver: Driver, tmp_path: Path, offset: int) -> None:
    spec = driver.load(models.scale(tmp_path))
    x = np.arange(LARGE, dtype=np.float32)
    message = b"?" * offset + x.tobytes() + b"!"
    part = memoryview(message)[offset : offset + x.nbytes]
    ended = driver.run(of(Piece(plan(spec, {"x": x}), [part], [], (), len(x))))
    assert input_address(driver.slot(spec)) == address(part)
    assert (array(ended.sent[0]) == 2 * x + 1).all()
    assert message == b"?" * offset + x.tobytes() + b"!"


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_small_inputs_of_any_kind(driver: Driver, tmp_path: Path, wrap: type[Any]) -> None:
    spec = driver.load(models.scale(tmp_path))
    for offset in range(5):
        message = wrap(b"?" * offset + f32(1, 2, 3).tobytes())
        run = of(Piece(plan(spec, {"x": f32(1, 2, 3)}), [message[offset:]], [], (), 3))
        assert array(driver.run(run).sent[0]).tolist() == [3, 5, 7]


def test_small_and_large_inputs_take_turns(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    for count in (3, LARGE, 3, 4, LARGE, LARGE + 1, 4):
        x = np.arange(count, dtype=np.float32)
        assert (array(driver.infer(spec, {"x": x}).sent[0]) == 2 * x + 1).all()


@pytest.mark.parametrize("count", [4, LARGE])
def test_bytes_that_do_not_match_their_shape(driver: Driver, tmp_path: Path, count: int) -> None:
    spec = driver.load(models.scale(tmp_path))
    x = np.ones(count, np.float32)
    ended = driver.run(of(Piece(plan(spec, {"x": x}), [x.tobytes()[:-1]], [], (), count)))
    assert isinstance(ended.error, ValueError)
    assert (array(driver.infer(spec, {"x": x}).sent[0]) == 3).all()


def test_inputs_are_released_when_the_run_has_ended(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    memory = np.ones(LARGE, np.float32)
    run = of(Piece(plan(spec, {"x": memory}), [memory.view(np.uint8).data], [], (), LARGE))
    alive = weakref.ref(memory)
    del memory
    ended = driver.run(run)
    assert (array(ended.sent[0]) == 3).all()
    assert alive() is not None
    del run, ended
    gc.collect()
    assert alive() is None
    assert array(driver.infer(spec, {"x": f32(1)}).sent[0]) == 3


def test_kept_memory_is_reused_after_its_release(driver: Driver, tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    spec = driver.load(models.large_scale(tmp_path))
    run = make(spec, {"x": np.zeros(1 << 20, np.float32)}, outputs=[], keep=["y"])

    def keep_64_mebibytes() -> None:
        assert len([driver.run(run).kept[0] for _ in range(16)]) == 16

    keep_64_mebibytes()
    before = resident()
    for _ in range(8):
        keep_64_mebibytes()
    assert resident() - before < 64 << 20
