"""Models of the real runtime that share the processor, as the core decides."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from time import monotonic

import numpy as np

from headrace.server.core.calls import Call, Inline
from headrace.server.core.core import Core
from headrace.server.core.engine_api import Ended, Run
from headrace.server.core.limits import Limits
from headrace.server.core.quotas import MessageCharge
from headrace.server.core.specs import ModelSpec
from headrace.server.engine.compilation import Compilation
from headrace.server.engine.runtime import OpenVinoEngine
from headrace.wire.dtypes import Datatype
from tests import models

PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "2", "INFERENCE_NUM_THREADS": "2"}
X = np.ones(1, np.float32).tobytes()


class Busy:
    """A core and an engine, and streams that always have more tickets for their model than it has slots."""

    def __init__(self, path: Path, processors: int, **shares: tuple[int, int]) -> None:
        """`shares` are weight and priority, by the name of the model."""
        self.engine = OpenVinoEngine()
        self.core = Core(Limits(processors=processors))
        self.done: Counter[str] = Counter()
        self.running: set[Run] = set()
        self.most = 0
        """Runs in progress at once."""
        self._woken = threading.Event()
        self.engine.on_ended(self._woken.set)
        self._tag = 0
        self._streams = {}
        for name, (weight, priority) in shares.items():
            compilation = Compilation("CPU", "async", "throughput", PROPERTIES, weight=weight, priority=priority)
            self.core.models.add(self.engine.load(name, "1", path, compilation))
            stream = self._streams[name] = self.core.open_stream(name)
            self.core.define(stream, 1, Call(name, "", (Inline("x", Datatype.FP32, (1,)),), ("y",), False, ()), 100)
            for _ in range(8):
                self._ask(name)

    def _ask(self, name: str) -> None:
        self._tag += 1
        stream = self._streams[name]
        charge: MessageCharge = self.core.charge(stream, len(X))
        self.core.infer(stream, self._tag, 1, [X], charge, monotonic())

    def run(self, seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            self._act()
            self._woken.wait(0.02)
            self._woken.clear()
            for ended in (*self.engine.collect(), *self.engine.poll()):
                self._end(ended)

    def _act(self) -> None:
        decision = self.core.decide(monotonic())
        for run in decision.starts:
            assert self.engine.start(run) is None
            self.running.add(run)
        self.most = max(self.most, len(self.running))

    def _end(self, ended: Ended) -> None:
        assert ended.error is None
        self.running.remove(ended.run)
        self.core.run_ended(ended, None, monotonic())
        name = ended.run.spec.name
        self.done[name] += 1
        stream = self._streams[name]
        self.core.handed_off(stream, stream.take(), monotonic())
        self.core.flushed(stream)
        self._ask(name)


def specs(busy: Busy) -> list[ModelSpec]:
    return [model.spec for model in busy.core.models]


def test_busy_models_have_a_run_more_in_progress_than_the_processor_has_threads(tmp_path: Path) -> None:
    path = models.slow(tmp_path, 4)
    busy = Busy(path, 2, a=(1, 0), b=(1, 0), c=(1, 0), d=(1, 0))
    slots = sum(spec.slots for spec in specs(busy))
    busy.run(0.1)
    alone = {*busy.running}
    while alone & busy.running:  # what the first model started while it was alone
        busy.run(0.1)
    busy.most = 0
    busy.run(2)
    assert busy.most <= 4 < slots
    assert min(busy.done.values()) > 0
    busy.engine.close()


def test_shares_are_those_of_the_weights(tmp_path: Path) -> None:
    busy = Busy(models.slow(tmp_path, 4), 2, heavy=(4, 0), light=(1, 0))
    busy.run(1)
    busy.done.clear()
    busy.run(4)
    part = busy.done["heavy"] / busy.done.total()
    assert 0.7 <= part <= 0.9
    busy.engine.close()


def test_the_highest_priority_has_what_it_can_use(tmp_path: Path) -> None:
    busy = Busy(models.slow(tmp_path, 4), 2, first=(1, 1), second=(1000, 0))
    busy.run(1)
    busy.done.clear()
    busy.run(3)
    assert busy.done["first"] / busy.done.total() >= 0.8
    assert busy.done["second"] > 0, "waiting raises a priority"
    busy.engine.close()
