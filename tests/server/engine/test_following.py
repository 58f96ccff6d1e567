"""Runs that follow each other in a slot, and what a slot remembers of the last one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from sys import getrefcount

import numpy as np
import pytest

from headrace.server.core.calls import Zeros
from headrace.server.core.engine_api import Run, Tensor
from headrace.wire.dtypes import Datatype
from tests import models
from tests.server.engine.driver import Array, Driver, array, arrays, f32, make, of, piece, results, row

ZEROS = Zeros("x", Datatype.FP32, (1, 16))


def with_data(run: Run, *inline: Array, references: tuple[Tensor, ...] = ()) -> Run:
    """The same plan again, with other data."""
    (part,) = run.parts
    return of(replace(part, inline=[each.tobytes() for each in inline], references=references))  # type: ignore[arg-type,type-var]


def test_a_chain_in_place(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    first = make(spec, {"x": row(1), "y": row(2)}, ["product"], keep=["sum"])
    driver.warm_run(first)
    (kept,) = driver.run(first).kept
    link = make(spec, {"x": kept, "y": row(2)}, ["product"], keep=["sum"])
    driver.warm_run(link)
    sums = [kept]
    for number in range(100):
        following = with_data(link, row(number), references=(sums[-1],))
        ended = driver.engine.follow(following)
        assert ended is not None
        assert ended.run is following
        (result,) = results(ended)
        expected = 3 + sum(range(number))
        assert (array(result.sent[0]) == expected * number).all()
        sums += result.kept
    assert [array(each)[0, 7] for each in sums] == [3 + sum(range(number)) for number in range(101)]


def test_a_slot_forgets_a_run_that_has_followed(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    driver.warm(spec, {"x": row(1), "y": row(2)})
    run = make(spec, {"x": row(1), "y": row(2)})
    known = getrefcount(run.parts)
    assert driver.engine.follow(run) is not None
    now = getrefcount(run.parts)
    assert now == known


def test_a_run_that_may_take_long_does_not_follow(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    driver.warm(spec, {"x": row(1), "y": row(2)})
    two = np.ones((2, 16), np.float32)
    run = make(spec, {"x": two, "y": two}, ["sum"])
    assert driver.engine.follow(run) is None
    assert (array(driver.run(run).sent[0]) == 2).all()


def test_a_model_that_is_handed_over_has_no_followers(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="async")
    run = make(spec, {"x": row(1), "y": row(2)}, ["sum"])
    driver.run(run)
    assert driver.engine.follow(run) is None
    assert (array(driver.run(run).sent[0]) == 3).all()


def test_a_run_whose_shapes_have_only_failed_does_not_follow(driver: Driver, tmp_path: Path) -> None:
    """In place the runtime would not raise, and would leave an earlier result in the output."""
    spec = driver.load(models.failing(tmp_path), run="direct")
    good, bad = np.arange(16, dtype=np.float32), np.arange(15, dtype=np.float32)
    run, failing = make(spec, {"x": good}), make(spec, {"x": bad})
    for _ in range(3):
        driver.warm_run(run)
        assert driver.engine.follow(failing) is None
        assert isinstance(driver.run(failing).error, RuntimeError)
        driver.warm_run(run)
        ended = driver.engine.follow(run)
        assert ended is not None
        assert (array(results(ended)[0].sent[0]) == good.reshape(2, 8)).all()


def test_bytes_that_do_not_match_their_shape(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), run="auto")
    run = make(spec, {"x": row(1), "y": row(2)}, ["sum"])
    driver.warm_run(run)
    for wrong in (row(1)[:, 1:], np.ones((2, 16), np.float32)):
        ended = driver.engine.follow(with_data(run, row(1), wrong))
        assert ended is not None
        assert isinstance(ended.error, ValueError)
        ended = driver.engine.follow(run)
        assert ended is not None
        assert (array(results(ended)[0].sent[0]) == 3).all()


def test_variables_are_reset(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.counter(tmp_path), run="direct")
    run = make(spec, {"x": f32(7)})
    driver.warm_run(run)
    for value in (1.0, 1.0, 5.0):
        ended = driver.engine.follow(with_data(run, f32(value)))
        assert ended is not None
        assert array(results(ended)[0].sent[0]).tolist() == [value]


@pytest.mark.parametrize("run", ["direct", "async"])
@pytest.mark.parametrize("seed", range(5))
def test_plans_take_turns_in_a_slot(driver: Driver, tmp_path: Path, run: str, seed: int) -> None:
    """Each finds its own inputs and outputs, whatever the plan before has left in the slot."""
    spec = driver.load(models.add_multiply(tmp_path), run=run)  # type: ignore[arg-type]
    random = Random(seed)
    kept = driver.infer(spec, {"x": row(5), "y": row(6)}, [], keep=["sum"]).kept[0]
    both = make(spec, {"x": row(0), "y": row(0)}, ["product", "sum"])
    keeping = make(spec, {"y": row(0), "x": row(0)}, ["sum"], keep=["product", "sum"])
    zeros = make(spec, {"x": ZEROS, "y": row(0)}, ["sum"], keep=["product"])
    linked = make(spec, {"y": row(0), "x": kept}, ["sum"])
    for _ in range(200):
        a, b = random.randrange(100), random.randrange(100)
        match random.randrange(5):
            case 0:
                sent = driver.run(with_data(both, row(a), row(b))).sent
                assert [each[0, 3] for each in arrays(sent)] == [a * b, a + b]
            case 1:
                result = driver.run(with_data(keeping, row(b), row(a)))
                assert [each[0, 3] for each in arrays([*result.sent, *result.kept])] == [a + b, a * b, a + b]
            case 2:
                result = driver.run(with_data(zeros, row(b)))
                assert [each[0, 3] for each in arrays([*result.sent, *result.kept])] == [b, 0]
            case 3:
                assert (array(driver.run(with_data(linked, row(b), references=(kept,))).sent[0]) == 11 + b).all()
            case _:
                parts = [piece(spec, {"x": row(each), "y": row(b)}, ["sum"]) for each in (a, b, a)]
                sums = [array(each.sent[0])[0, 3] for each in driver.batch(of(*parts))]
                assert sums == [a + b, b + b, a + b]
