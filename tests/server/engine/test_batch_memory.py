"""The memory that batches read and write: what keeps it alive, and for how long."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from headrace.server.engine import outputs
from headrace.server.engine.tensors import OutputTensor
from headrace.wire.dtypes import Datatype
from tests.interpreted import interpreted
from tests.server.engine.bench import ROWS, Bench, contents, numbers
from tests.server.engine.driver import Array, address, array, of


@pytest.mark.parametrize("rows", [(ROWS, 2, ROWS), (ROWS, ROWS, ROWS)], ids=["several calls", "one call"])
def test_a_result_does_not_pin_another_tickets_memory(bench: Bench, rows: tuple[int, ...]) -> None:
    """Parts may belong to different streams, of which one may read very slowly."""
    for result in bench.batch(*bench.pieces(*rows)):
        for tensor in result.sent:
            data = tensor.read()
            assert isinstance(data, bytes)
            assert len(data) == tensor.nbytes


def test_a_kept_output_does_not_pin_another_tickets_memory(bench: Bench) -> None:
    first, second = bench.pieces(ROWS, 2, outputs=["sum"])
    third = bench.piece({"x": numbers(1, 3), "y": numbers(2, 3)}, ["sum"], ["sum"])
    found = bench.batch(first, second, third)
    (kept,) = found[2].kept
    assert found[2].sent[0] is kept
    assert isinstance(kept.read(), bytes)
    assert array(kept).tolist() == (numbers(1, 3) + numbers(2, 3)).tolist()


@pytest.mark.parametrize("rows", [(1, 1, 1), (1, ROWS, 3)])
def test_results_survive_later_runs(bench: Bench, rows: tuple[int, ...]) -> None:
    pieces = bench.pieces(*rows, keep=["sum"])
    found = bench.batch(*pieces)
    before = [contents(result) for result in found]
    others = bench.pieces(*reversed(rows), keep=["product"])
    for each in others:
        each.inline = [np.full((each.rows, 16), 5, np.float32).tobytes() for _ in range(2)]
    for _ in range(100):
        for result in bench.driver.batch(of(*others)):
            assert set(array(result.sent[0]).flat) == {10}
        bench.driver.run(of(others[0]))
    assert [contents(result) for result in found] == before


@interpreted
def test_outputs_that_were_not_requested_are_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []

    def counted(datatype: Datatype, shape: tuple[int, ...], data: bytes | memoryview) -> OutputTensor:
        read.append(shape)
        return OutputTensor(datatype, shape, data)

    nothing, sums = bench.pieces(1, 1, outputs=[]), bench.pieces(1, 1, outputs=["sum"])
    bench.driver.batch(of(*nothing))
    monkeypatch.setattr(outputs, "OutputTensor", counted)
    assert [contents(result) for result in bench.driver.batch(of(*nothing))] == [[], []]
    assert read == []
    bench.driver.batch(of(*sums))
    assert read == [(1, 16)] * 2


@pytest.mark.parametrize("rows", [(20_000, 1), (10_000, 10_000)], ids=["two calls", "one call"])
def test_a_huge_batch_that_is_not_read_pins_no_memory(bench: Bench, rows: tuple[int, int]) -> None:
    def grown() -> Array:
        """The slot's scratch tensors, held so that their memory is not reused."""
        bench.driver.batch(of(*bench.pieces(*rows, outputs=[])))
        memory: Array = bench.driver.slot(bench.spec)._outputs._scratch[0].data
        assert memory.shape == (sum(rows), 16)
        return memory

    memory = grown()
    kept = bench.driver.infer(bench.spec, {"x": numbers(1, ROWS), "y": numbers(2, ROWS)}, [], ["sum"]).kept[0]
    assert address(kept.read()) != memory.ctypes.data
    memory = grown()
    pieces = [bench.pieces(1, outputs=[])[0], bench.pieces(ROWS, outputs=["sum"])[0]]
    _, result = bench.driver.batch(of(*pieces))
    assert address(result.sent[0].read()) != memory.ctypes.data + 64


def test_large_batches_write_to_the_same_memory_again(bench: Bench) -> None:
    """Their results are copies, so the slot needs no other memory for the next one."""

    def run(value: float) -> tuple[int, list[Array]]:
        pieces = bench.pieces(ROWS, ROWS, outputs=["sum"], keep=["sum"])
        for each in pieces:
            each.inline = [np.full((ROWS, 16), value, np.float32).tobytes() for _ in range(2)]
        sums = [array(result.kept[0]) for result in bench.driver.batch(of(*pieces))]
        return bench.driver.slot(bench.spec)._outputs._scratch[0].data.ctypes.data, sums

    run(1)
    where, first = run(2)
    again, second = run(3)
    assert where == again
    assert [{*each.flat} for each in (*first, *second)] == [{4}, {4}, {6}, {6}]
    # A run of one part takes its memory with it, which must not be that of the batch. That is held, or else it may have
    # been freed, and allocated again.
    held = bench.driver.slot(bench.spec)._outputs._scratch[0]
    alone = bench.driver.infer(bench.spec, {"x": numbers(1, ROWS), "y": numbers(2, ROWS)}, [], ["sum"]).kept[0]
    assert address(alone.read()) != where == held.data.ctypes.data


def test_inputs_are_released_when_the_run_has_ended(bench: Bench) -> None:
    memory = numbers(1, ROWS)
    pieces = bench.pieces(ROWS, 1)
    pieces[0].inline = [memory.view(np.uint8).reshape(-1).data] * 2
    alive = weakref.ref(memory)
    del memory
    batch = of(*pieces)
    del pieces
    found = bench.driver.batch(batch)
    assert alive() is not None
    del batch
    gc.collect()
    assert alive() is None
    assert array(found[0].sent[0]).tolist() == (2 * numbers(1, ROWS)).tolist()
