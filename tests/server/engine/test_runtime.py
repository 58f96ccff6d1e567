"""Every run ends exactly once, whatever happens to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from headrace.server.core.engine_api import Ended, Engine, Run
from headrace.server.engine import runtime
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.server.engine.slots import Slot
from headrace.wire.errors import FailedPrecondition
from tests import models
from tests.server.engine.driver import Array, Driver, array, arrays, f32, make, of, only, piece, row
from tests.stopwatch import Stopwatch


def test_it_is_an_engine() -> None:
    engine: Engine = OpenVinoEngine()
    assert engine.collect() == []
    assert engine.poll() == []


def test_several_models_and_slots_at_once(driver: Driver, tmp_path: Path) -> None:
    scale = driver.load(models.scale(tmp_path), slots=2)
    counter = driver.load(models.counter(tmp_path), slots=2)
    runs = [make(spec, {"x": f32(5)}, slot=slot) for spec in (scale, counter) for slot in (0, 1)]
    for run in runs:
        driver.engine.start(run)
    ended = {id(one.run): one for one in driver.wait(4)}
    assert [array(only(ended[id(run)]).sent[0]).tolist() for run in runs] == [[11], [11], [5], [5]]


def test_data_of_different_clients_never_mix(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.add_multiply(tmp_path), slots=4)
    chance = random.Random(1)
    free = list(range(spec.slots))
    expected: dict[Run, tuple[Array, Array]] = {}
    results: list[Ended] = []
    for number in range(2000):
        rows = chance.choice([0, 1, 1, 2, 30, 1000])
        x = np.full((rows, 16), number, np.float32)
        y = np.full((rows, 16), chance.random(), np.float32)
        outputs = chance.choice([[], ["sum"], ["product"], ["product", "sum"]])
        keep = chance.choice([[], [], ["sum"], ["sum", "product"]])
        run = make(spec, {"x": x, "y": y}, outputs, keep, free.pop())
        expected[run] = (x + y, x * y)
        driver.engine.start(run)
        while not free or (number == 1999 and len(results) < 2000):
            for ended in driver.wait():
                results.append(ended)
                free.append(ended.run.slot)
    for ended in results:
        assert ended.error is None
        result, (part,) = only(ended), ended.run.parts
        assert part.plan is not None
        ports, tensors = (*part.plan.outputs, *part.plan.keep), (*result.sent, *result.kept)
        for port, tensor in zip(ports, tensors, strict=True):
            assert np.array_equal(array(tensor), expected[ended.run][port.index])


def test_one_wake_serves_many(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path), slots=4)
    for slot in range(4):
        driver.engine.start(make(spec, {"x": f32(slot)}, slot=slot))
    for slot in range(4):
        driver.slot(spec, slot)._request.wait()  # until its callback has returned
    assert driver.wakes == 1
    assert sorted(array(only(ended).sent[0])[0] for ended in driver.engine.collect()) == [1, 3, 5, 7]
    driver.woken.clear()
    driver.infer(spec, {"x": f32(1)})
    assert driver.wakes == 2


def test_a_wake_that_raises_does_no_harm(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))

    def wake() -> None:
        driver.woken.set()
        raise RuntimeError("the loop is closed")

    driver.engine.on_ended(wake)
    for value in (1, 2):
        ended = driver.infer(spec, {"x": f32(value)})
        assert array(ended.sent[0]) == 2 * value + 1
        assert driver.engine.poll() == []


def test_a_failure_is_found_by_polling_and_the_slot_goes_on(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.failing(tmp_path))
    for _ in range(3):
        ended = driver.run(make(spec, {"x": np.zeros(15, np.float32)}))
        assert isinstance(ended.error, RuntimeError)
        assert not ended.sent
        x = np.arange(16, dtype=np.float32)
        assert (array(driver.infer(spec, {"x": x}).sent[0]) == x.reshape(2, 8)).all()
    assert driver.polls < 30


def test_what_cannot_start_is_reported_as_ended(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.static_add_multiply(tmp_path))
    good = make(spec, {"x": row(1), "y": row(2)})
    part = piece(spec, {"x": row(1), "y": row(2)})
    part.inline = [part.inline[0], part.inline[1][:-4]]
    bad = of(part)
    ended = driver.engine.start(bad)
    assert ended
    assert ended.run is bad
    assert isinstance(ended.error, ValueError)
    assert driver.wakes == 0
    assert driver.engine.poll() == []
    assert [a[0, 0] for a in arrays(driver.run(good).sent)] == [3, 2]


def test_a_cancel_stops_the_run_early_and_the_slot_goes_on(
    driver: Driver, tmp_path: Path, stopwatch: Stopwatch
) -> None:
    spec = driver.load(models.slow(tmp_path))
    stopwatch.start()
    assert array(driver.infer(spec, {"x": f32(2)}).sent[0]) == 2
    whole = stopwatch.ran()
    for value in (3, 4):
        run = make(spec, {"x": f32(value)}, keep=["y"])
        driver.engine.start(run)
        stopwatch.start()
        driver.engine.cancel(run)
        (ended,) = driver.wait()
        assert stopwatch.ran() < whole / 2
        assert ended.run is run
        assert (ended.sent, ended.kept) == ((), ())
    assert array(driver.infer(spec, {"x": f32(5)}).sent[0]) == 5


def test_a_cancel_after_completion_is_reported_once(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.scale(tmp_path))
    run = make(spec, {"x": f32(1)})
    driver.engine.start(run)
    assert driver.woken.wait(30)
    driver.engine.cancel(run)
    assert driver.engine.poll() == []
    assert driver.engine.collect() == [Ended(run)]
    driver.engine.cancel(run)
    assert driver.engine.collect() + driver.engine.poll() == []
    assert array(driver.infer(spec, {"x": f32(4)}).sent[0]) == 9


Chosen = Callable[[float, bool], dict[str, Array]]


def failing(value: float, good: bool) -> dict[str, Array]:
    return {"x": np.full(16 if good else 15, value, np.float32)}


def scattering(value: float, good: bool) -> dict[str, Array]:
    everywhere = np.full((4, 2), value, np.float32)
    return {"x": everywhere, "i": np.array([[0], [3 if good else 4]]), "u": everywhere[:2]}


@pytest.mark.parametrize(
    ("path", "chosen", "count"), [(models.scattering, scattering, 3000), (models.failing, failing, 300)]
)
def test_every_run_ends_once(
    driver: Driver, tmp_path: Path, path: Callable[[Path], Path], chosen: Chosen, count: int
) -> None:
    """Runs complete, fail and are cancelled at any moment, in slots that are reused as soon as possible."""
    spec = driver.load(path(tmp_path), slots=3)
    chance = random.Random(2)
    free = [0, 1, 2]
    started: dict[Run, float] = {}
    ends: dict[Run, Ended] = {}
    while len(ends) < count:
        if free and len(started) < count:
            value = float(len(started))
            run = make(spec, chosen(value, chance.random() < 2 / 3), slot=free.pop())
            started[run] = value
            driver.engine.start(run)
        if chance.random() < 0.3:
            driver.engine.cancel(chance.choice(list(started)[-8:]))
        for ended in (driver.engine.collect, driver.engine.poll)[chance.random() < 0.5]():
            assert ended.run not in ends
            ends[ended.run] = ended
            if not ended.restoring:
                free.append(ended.run.slot)
            if ended.sent:
                assert (array(only(ended).sent[0]) == started[ended.run]).all()
        free += [slot for _, slot, _ in driver.engine.restored()]
    assert set(ends) == set(started)
    assert len(set(free)) == len(free)
    assert driver.engine.collect() + driver.engine.poll() == []
    kinds = [(bool(ended.sent), ended.error is not None) for ended in ends.values()]
    assert {(True, False), (False, True)} <= set(kinds)


def test_slots_that_cannot_be_made(driver: Driver, tmp_path: Path) -> None:
    def broken(*_: object) -> Slot:
        raise MemoryError

    with patch.object(runtime, "Slot", broken), pytest.raises(FailedPrecondition) as caught:
        driver.load(models.scale(tmp_path), slots=3)
    assert caught.value.message == "model 'm' cannot be served: the runtime cannot make its 3 slots: MemoryError"
    assert isinstance(caught.value.__cause__, MemoryError)


def test_unloading(driver: Driver, tmp_path: Path) -> None:
    path = models.scale(tmp_path)
    old, new = driver.load(path), driver.load(path)
    assert old == new
    assert old is not new
    driver.engine.unload(old)
    ended = driver.run(make(old, {"x": f32(1)}))
    assert isinstance(ended.error, KeyError)
    assert array(driver.infer(new, {"x": f32(1)}).sent[0]) == 3


def test_closing_stops_runs_in_progress(tmp_path: Path, stopwatch: Stopwatch) -> None:
    driver = Driver()
    spec = driver.load(models.slow(tmp_path, steps=1000), slots=2)
    for slot in (0, 1):
        driver.engine.start(make(spec, {"x": f32(1)}, slot=slot))
    stopwatch.start()
    driver.engine.close()
    assert stopwatch.ran() < 5
    assert driver.engine.collect() + driver.engine.poll() == []
    assert repr(driver.engine) == "<OpenVinoEngine 0 models, 0 running, 0 of them stopping>"


def test_closing_does_not_wait_for_the_holder_of_an_error(tmp_path: Path, stopwatch: Stopwatch) -> None:
    """The traceback of an error refers to everything that took part."""
    driver = Driver()
    spec = driver.load(models.static_add_multiply(tmp_path))
    part = piece(spec, {"x": row(1), "y": row(2)})
    part.inline = [part.inline[0], part.inline[1][:-4]]
    error = driver.run(of(part)).error
    stopwatch.start()
    driver.engine.close()
    assert stopwatch.ran() < 5
    assert isinstance(error, ValueError)


def test_engines_come_and_go_while_callbacks_return(tmp_path: Path) -> None:
    """An engine that is freed too early hangs or aborts, because the runtime ends its threads."""
    path = models.scale(tmp_path)
    for _ in range(30):
        driver = Driver()
        spec = driver.load(path, slots=4)
        for slot in range(4):
            driver.engine.start(make(spec, {"x": f32(1)}, slot=slot))
        driver.engine.close()
        del driver


def test_the_repr_shows_what_an_engine_holds(driver: Driver, tmp_path: Path) -> None:
    spec = driver.load(models.slow(tmp_path))
    run = make(spec, {"x": f32(1)})
    assert repr(driver.slot(spec)) == "<Slot free>"
    driver.engine.start(run)
    assert repr(driver.slot(spec)) == "<Slot running>"
    driver.engine.cancel(run)
    assert repr(driver.slot(spec)) == "<Slot stopping>"
    assert repr(driver.engine) == "<OpenVinoEngine 1 models, 1 running, 1 of them stopping>"
    driver.wait()
