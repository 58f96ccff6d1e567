"""Runs of several parts: each part gets the result that it would get alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.server.core.calls import Zeros
from headrace.server.core.engine_api import Ended, Run, Tensor
from headrace.server.engine.tensors import MAX_COPIED_BYTES
from headrace.wire.dtypes import Datatype
from tests import models
from tests.server.engine import row_models
from tests.server.engine.bench import ROWS, Bench, Kind, contents, numbers
from tests.server.engine.driver import Array, Driver, Piece, Result, array, arrays, f32, of, piece, results, row


def expected(a: Array, b: Array) -> dict[str, Array]:
    """The outputs of `uneven` for these inputs."""
    return {"wide": a - b.sum(1, keepdims=True), "narrow": 3 * b - a.max(1, keepdims=True)}


def alone(bench: Bench, pieces: Sequence[Piece]) -> list[Any]:
    return [contents(bench.driver.run(of(each))) for each in pieces]


@pytest.mark.parametrize("rows", [(1, 1), (1,) * 17, (1, 3, 1, 2), (5, 1)])
def test_each_part_gets_what_it_gets_alone(bench: Bench, rows: tuple[int, ...]) -> None:
    pieces = bench.pieces(*rows)
    rng = np.random.default_rng(7)
    for each in pieces:
        each.inline = [rng.standard_normal((each.rows, 16), np.float32).tobytes() for _ in range(2)]
    found = bench.batch(*pieces)
    assert [contents(result) for result in found] == alone(bench, pieces)
    assert [[tensor.shape for tensor in result.sent] for result in found] == [[(n, 16), (n, 16)] for n in rows]
    assert len({data for result in found for _, data in contents(result)}) == 2 * len(rows)


@pytest.mark.parametrize("outputs", [["sum"], ["product", "sum"], []])
@pytest.mark.parametrize("keep", [[], ["sum"], ["product", "sum"]])
def test_requested_and_kept_outputs(bench: Bench, outputs: list[str], keep: list[str]) -> None:
    pieces = bench.pieces(1, 1, 1, outputs=outputs, keep=keep)
    found = bench.batch(*pieces)
    for part, result in enumerate(found):
        x, y = numbers(part, 1), numbers(part + 100, 1)
        values = {"sum": x + y, "product": x * y}
        assert [a.tolist() for a in arrays(result.sent)] == [values[name].tolist() for name in outputs]
        assert [a.tolist() for a in arrays(result.kept)] == [values[name].tolist() for name in keep]


def test_parts_of_different_calls(driver: Driver, tmp_path: Path, run: Kind) -> None:
    bench = Bench(driver, run, row_models.uneven(tmp_path))
    names = [None, ["narrow"], [], ["narrow", "wide"], ["wide"], []]
    keeps: list[list[str]] = [[], ["wide"], ["narrow"], ["wide", "narrow"], [], []]
    rows = (1, 2, 1, 3, 1, 2)
    pieces: list[Piece] = []
    for part, (asked, kept, count) in enumerate(zip(names, keeps, rows, strict=True)):
        inputs = [("a", numbers(part, count)), ("b", numbers(part + 50, count, 4))]
        pieces.append(bench.piece(dict(reversed(inputs) if part % 2 else inputs), asked, kept))
    for part, result in enumerate(bench.batch(*pieces)):
        values = expected(numbers(part, rows[part]), numbers(part + 50, rows[part], 4))
        asked = names[part]
        for tensors, wanted in (
            (result.sent, ["wide", "narrow"] if asked is None else asked),
            (result.kept, keeps[part]),
        ):
            assert [a.tolist() for a in arrays(tensors)] == [values[name].tolist() for name in wanted]


def test_parts_that_request_different_outputs(bench: Bench) -> None:
    asked: list[list[str]] = [["product"], ["sum"], [], ["sum", "product"]]
    pieces = [bench.pieces(*[1] * 4, outputs=names)[part] for part, names in enumerate(asked)]
    for part, result in enumerate(bench.batch(*pieces)):
        x, y = numbers(part, 1), numbers(part + 100, 1)
        values = {"sum": x + y, "product": x * y}
        assert [a.tolist() for a in arrays(result.sent)] == [values[name].tolist() for name in asked[part]]


def test_only_what_is_still_wanted_is_kept(bench: Bench) -> None:
    pieces = bench.pieces(1, 1, 1, outputs=["sum"], keep=["sum", "product"])
    pieces[0].keep, pieces[1].keep = (1,), ()
    found = bench.batch(*pieces)
    assert [len(result.kept) for result in found] == [1, 0, 2]
    assert array(found[0].kept[0]).tolist() == (numbers(0, 1) * numbers(100, 1)).tolist()
    assert found[2].sent[0] is found[2].kept[0]


def test_references_and_zeros(driver: Driver, tmp_path: Path, run: Kind) -> None:
    bench = Bench(driver, run, row_models.uneven(tmp_path))
    a, b = numbers(1, 3), numbers(2, 3, 4)
    source = driver.infer(bench.spec, {"a": a, "b": b}, outputs=[], keep=["wide", "narrow"]).kept
    wide, narrow = arrays(source)
    zeros_a, zeros_b = Zeros("a", Datatype.FP32, (2, 16)), Zeros("b", Datatype.FP32, (3, 4))
    pieces = [
        bench.piece({"a": numbers(3, 1), "b": numbers(4, 1, 4)}),
        bench.piece({"b": numbers(5, 2, 4), "a": zeros_a}),
        bench.piece({"a": source[0], "b": source[1]}),
        bench.piece({"b": zeros_b, "a": source[0]}),
        bench.piece({"a": numbers(6, 3), "b": source[1]}),
    ]
    values = [
        expected(numbers(3, 1), numbers(4, 1, 4)),
        expected(np.zeros((2, 16), np.float32), numbers(5, 2, 4)),
        expected(wide, narrow),
        expected(wide, np.zeros((3, 4), np.float32)),
        expected(numbers(6, 3), narrow),
    ]
    for result, wanted in zip(bench.batch(*pieces), values, strict=True):
        assert [a.tolist() for a in arrays(result.sent)] == [each.tolist() for each in wanted.values()]
    assert [a.tolist() for a in arrays(source)] == [wide.tolist(), narrow.tolist()]


def test_references_and_zeros_of_one_call(driver: Driver, tmp_path: Path, run: Kind) -> None:
    bench = Bench(driver, run, row_models.uneven(tmp_path))
    sources = [driver.infer(bench.spec, {"a": numbers(n, 1), "b": numbers(n + 9, 1, 4)}).sent[0] for n in range(3)]
    pieces = [bench.piece({"a": source, "b": numbers(n, 1, 4)}) for n, source in enumerate(sources)]
    for each in pieces:
        each.plan = pieces[0].plan
    for n, result in enumerate(bench.batch(*pieces)):
        wanted = expected(array(sources[n]), numbers(n, 1, 4))
        assert [a.tolist() for a in arrays(result.sent)] == [each.tolist() for each in wanted.values()]
    zeros = bench.piece({"a": numbers(5, 2), "b": Zeros("b", Datatype.FP32, (2, 4))})
    for result in bench.batch(zeros, zeros):
        wanted = expected(numbers(5, 2), np.zeros((2, 4), np.float32))
        assert [a.tolist() for a in arrays(result.sent)] == [each.tolist() for each in wanted.values()]


@pytest.mark.parametrize("rows", [(ROWS // 2, ROWS // 2, 2), (ROWS, 1, ROWS + 5), (1, 3 * ROWS)])
def test_large_ones(bench: Bench, rows: tuple[int, ...]) -> None:
    pieces = bench.pieces(*rows, keep=["product"])
    found = bench.batch(*pieces)
    assert sum(result.sent[0].nbytes for result in found) > MAX_COPIED_BYTES
    assert [contents(result) for result in found] == alone(bench, pieces)


def test_a_single_run_of_as_many_rows_comes_between(bench: Bench) -> None:
    for rows in ((2, 1), (ROWS, 1)):
        for _ in range(3):
            pieces = bench.pieces(*rows)
            for each in pieces:
                each.inline = [np.full((each.rows, 16), value, np.float32).tobytes() for value in (2, 3)]
            assert [set(array(result.sent[0]).flat) for result in bench.driver.batch(of(*pieces))] == [{5}, {5}]
            x = np.full((sum(rows), 16), 7, np.float32)
            assert set(array(bench.driver.infer(bench.spec, {"x": x, "y": x}).sent[0]).flat) == {14}


def test_quickness_is_known_by_the_number_of_rows(driver: Driver, tmp_path: Path) -> None:
    bench = Bench(driver, "direct", models.add_multiply(tmp_path))
    bench.batch(*bench.pieces(1, 1))
    before = driver.in_place
    driver.batch(of(*bench.pieces(1, 2)))
    assert driver.in_place == before
    bench.batch(*bench.pieces(1, 2))
    before = driver.in_place
    driver.batch(of(*bench.pieces(1, 1, 1)))
    assert driver.in_place == before + 1


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_wrong_bytes_of_one_part(bench: Bench, which: int, rows: int) -> None:
    bench.batch(*bench.pieces(1, rows))
    bad = bench.pieces(1, rows, 1)
    inline = [bytes(data) for data in bad[1].inline]
    inline[which] = inline[which][:-4]
    bad[1].inline = inline
    assert isinstance(bench.fails(*bad), ValueError)
    # Whatever has been joined by then, the slot is as good as before.
    for pieces in (bench.pieces(2), bench.pieces(1, rows, 1)):
        found = results_of(bench, pieces)
        for part, result in enumerate(found):
            x, y = numbers(part, pieces[part].rows), numbers(part + 100, pieces[part].rows)
            assert [a.tolist() for a in arrays(result.sent)] == [(x + y).tolist(), (x * y).tolist()]


def results_of(bench: Bench, pieces: Sequence[Piece]) -> list[Result]:
    return bench.batch(*pieces) if len(pieces) > 1 else [bench.driver.run(of(*pieces))]


def test_a_run_that_fails(driver: Driver, tmp_path: Path, run: Kind) -> None:
    """A batch of other than 16 elements fails in the runtime; one of 16 elements has other rows than its inputs."""
    bench = Bench(driver, run, models.failing(tmp_path))
    for counts in ((7, 8), (8, 8)):
        pieces = [bench.piece({"x": np.ones(count, np.float32)}) for count in counts]
        assert isinstance(bench.fails(*pieces), RuntimeError)
        x = np.arange(16, dtype=np.float32)
        assert (array(driver.infer(bench.spec, {"x": x}).sent[0]) == x.reshape(2, 8)).all()


def test_an_output_without_the_rows_of_the_inputs(driver: Driver, tmp_path: Path) -> None:
    bench = Bench(driver, "async", models.unique(tmp_path))
    same, other = bench.piece({"x": f32(1)}), bench.piece({"x": f32(2)})
    assert "has shape [1]" in str(bench.fails(same, same))
    assert [array(result.sent[0]).tolist() for result in bench.batch(same, other)] == [[1], [2]]


def test_an_output_that_has_only_one_row(driver: Driver, tmp_path: Path, run: Kind) -> None:
    bench = Bench(driver, run, row_models.first(tmp_path))
    one, other = bench.piece({"x": f32(1)}), bench.piece({"x": f32(2)})
    assert "has shape [1]" in str(bench.fails(one, other))
    assert [array(result.sent[0]).tolist() for result in bench.batch(other)] == [[2]]


def test_a_cancel_stops_the_batch_and_the_slot_goes_on(driver: Driver, tmp_path: Path, run: Kind) -> None:
    spec = driver.load(row_models.slow(tmp_path), run=run)
    for value in (1, 2):
        pieces = [piece(spec, {"x": f32(number)[:, None]}, keep=["y"]) for number in (value, 10, 20)]
        batch = of(*pieces)
        assert driver.engine.start(batch) is None
        driver.engine.cancel(batch)
        (ended,) = driver.wait()
        assert ended.run is batch
        assert (ended.sent, ended.kept) == ((), ())
        assert [array(result.sent[0]).tolist() for result in driver.batch(of(*pieces))] == [[[value]], [[10]], [[20]]]


def test_a_cancel_after_completion_takes_the_result(driver: Driver, tmp_path: Path) -> None:
    bench = Bench(driver, "async", models.add_multiply(tmp_path))
    batch = of(*bench.pieces(1, 2))
    driver.engine.start(batch)
    assert driver.woken.wait(30)
    driver.engine.cancel(batch)
    assert driver.engine.poll() == []
    assert driver.engine.collect() == [Ended(batch)]
    assert [array(result.sent[0]).shape for result in driver.batch(of(*bench.pieces(1, 2)))] == [(1, 16), (2, 16)]


def test_batches_and_single_runs_in_any_order(driver: Driver, tmp_path: Path, run: Kind) -> None:
    """In two slots at once, of all sizes and calls: no part gets another part's result."""
    spec = driver.load(models.add_multiply(tmp_path), run=run, slots=2)
    chance = random.Random(3)
    free = [0, 1]
    started: dict[Run, list[tuple[Array, Array]]] = {}
    found: dict[Run, list[Result]] = {}
    sources: list[Tensor] = [driver.infer(spec, {"x": row(1), "y": row(2)}).sent[0]]
    number = 0
    while len(found) < 600:
        while free and len(started) < 600:
            pieces, values = [], []
            for _ in range(chance.choice([1, 1, 2, 3, 8])):
                number += 1
                rows = chance.choice([1, 1, 1, 2, 5, 400])
                y = np.full((rows, 16), number, np.float32)
                x: Array | Tensor = np.full((rows, 16), chance.random(), np.float32)
                if rows == 1 and chance.random() < 0.3:
                    x = chance.choice(sources)
                asked = chance.choice([[], ["sum"], ["product"], ["product", "sum"], None])
                keep = chance.choice([[], [], ["sum"], ["sum", "product"]])
                inputs: dict[str, Array | Tensor] = {"x": x, "y": y}
                pieces.append(piece(spec, dict(reversed(inputs.items())) if number % 2 else inputs, asked, keep))
                values.append((x if isinstance(x, np.ndarray) else array(x), y))
            batch = of(*pieces, slot=free.pop())
            started[batch] = values
            if in_place := driver.engine.start(batch):
                found[batch] = results(in_place)
                free.append(batch.slot)
        for ended in driver.wait() if len(free) < 2 else ():
            found[ended.run] = results(ended)
            free.append(ended.run.slot)
            sources += [kept for result in found[ended.run] for kept in result.kept if kept.shape[0] == 1]
            del sources[:-20]
    assert set(found) == set(started)
    for batch, values in started.items():
        for part, result, (a, b) in zip(batch.parts, found[batch], values, strict=True):
            assert part.plan is not None
            assert result.error is None
            ports, tensors = (*part.plan.outputs, *part.plan.keep), (*result.sent, *result.kept)
            for port, tensor in zip(ports, tensors, strict=True):
                assert np.array_equal(array(tensor), a + b if port.name == "sum" else a * b)
