"""A processor that runs of several models share, as the system's scheduler divides it, in simulated time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headrace.server.core.sharing import Processor, Share
from headrace.server.core.specs import ModelSpec


class Model:
    """A model with `work` seconds of one thread in each run. With `asks` it asks for a run that often; otherwise all
    its slots always have work.
    """

    def __init__(
        self,
        work: float,
        *,
        streams: int = 1,
        threads: int = 1,
        slots: int = 0,
        weight: int = 1,
        priority: int = 0,
        asks: float = 0.0,
    ) -> None:
        self.spec = ModelSpec(
            "m", "1", (), (), False, slots or 2 * streams, streams=streams, threads=threads, weight=weight,
            priority=priority,
        )  # fmt: skip
        self.share = Share(self.spec)
        self.work = work
        self.asks = asks
        self.queued = 0
        self.arrivals: list[float] = []
        """Of the tickets that are queued."""
        self.running: list[Run] = []
        """In the order of their starts; the first `streams` of them compute."""
        self.had = 0.0
        """Seconds of threads."""
        self.latencies: list[float] = []

    def __repr__(self) -> str:
        spec = self.spec
        how = f"{spec.streams} streams of {spec.threads} threads, {spec.slots} slots"
        return f"<Model {self.work} s, {how}, weight {spec.weight}, priority {spec.priority}, asks {self.asks}>"

    @property
    def has_free_slot(self) -> bool:
        return len(self.running) < self.spec.slots

    @property
    def computing(self) -> Sequence[Run]:
        return self.running[: self.spec.streams]


class Run:
    def __init__(self, model: Model, arrived: float, expected: float) -> None:
        self.left = model.work / model.spec.threads
        self.arrived = arrived
        self.expected = expected


class SharedProcessor:
    def __init__(self, threads: int, models: Sequence[Model]) -> None:
        self.threads = threads
        self.models = models
        self.processor: Processor[Model] = Processor(threads)
        self.now = 0.0
        self.idle = 0.0
        """Seconds of threads in which nothing computed although a model had a ticket and a free slot."""
        self.most, self.fewest = 0, 1 << 16
        """The most and the fewest threads that computed at once."""
        self._startable: dict[Model, None] = {}
        self._next = {model: model.asks for model in models if model.asks}
        for model in models:
            if not model.asks:
                self._ask(model, model.spec.slots + 1)
        self._decide()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self._step(end)

    def _ask(self, model: Model, count: int) -> None:
        model.queued += count
        model.arrivals += [self.now] * count
        self._startable[model] = None

    def _step(self, end: float) -> None:
        """Go on until a run ends or a ticket arrives."""
        computing = sum(len(model.computing) * model.spec.threads for model in self.models)
        self.most, self.fewest = max(self.most, computing), min(self.fewest, computing)
        pace = min(1.0, self.threads / computing) if computing else 1.0
        first = min((run.left for model in self.models for run in model.computing), default=math.inf)
        seconds = min(first / pace, min(self._next.values(), default=math.inf) - self.now, end - self.now)
        if computing < self.threads and any(model.queued and model.has_free_slot for model in self.models):
            self.idle += (self.threads - computing) * seconds
        self.now += seconds
        for model in self.models:
            for run in [*model.computing]:
                run.left -= seconds * pace
                model.had += seconds * pace * model.spec.threads
                if run.left < 1e-9:
                    model.running.remove(run)
                    model.latencies.append(self.now - run.arrived)
                    self.processor.ended(model.share, run.expected, self.now)
                    self._ask(model, 0 if model.asks else 1)
        for model, due in self._next.items():
            if due <= self.now + 1e-9:
                self._next[model] += model.asks
                self._ask(model, 1)
        self._decide()

    def _decide(self) -> None:
        """Start what is to start, as `execution` does."""
        startable, self._startable = self._startable, {}
        for model in startable:
            if self.processor.is_alone(model.share):
                while model.queued and model.has_free_slot:
                    self._start(model, alone=True)
            else:
                self.processor.wait(model, self.now)
        while (chosen := self.processor.choose(self.now)) is not None:
            self._start(chosen, alone=False)
            self.processor.wait(chosen, self.now)

    def _start(self, model: Model, *, alone: bool) -> None:
        assert model.queued
        assert model.has_free_slot
        model.queued -= 1
        expected = self.processor.started(model.share, self.now, alone=alone)
        model.running.append(Run(model, model.arrivals.pop(0), expected))
