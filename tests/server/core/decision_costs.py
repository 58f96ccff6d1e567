"""Times of decisions among many streams: `python -m tests.server.core.decision_costs` prints a table."""

from __future__ import annotations

import gc
from dataclasses import replace
from time import process_time
from typing import TypedDict

from headrace.server.core.limits import Limits
from tests.server.core.model_specs import many
from tests.server.core.scenario import Scenario

ROUNDS = 2000


class Options(TypedDict, total=False):
    batch: int
    connections: bool
    deadlines: bool
    priorities: bool
    parked: bool
    threads: int


SITUATIONS: dict[str, Options] = {
    "one ticket in a run": {"batch": 1},
    "batches of 8": {"batch": 8},
    "a connection for each stream": {"batch": 1, "connections": True},
    "deadlines": {"batch": 1, "deadlines": True},
    "three priorities": {"batch": 1, "priorities": True},
    "nine of ten streams do not read": {"batch": 1, "parked": True},
}


class Situation:
    """Streams that each have a ticket queued for one slot, which is never free for long."""

    def __init__(
        self,
        streams: int,
        *,
        batch: int,
        connections: bool = False,
        deadlines: bool = False,
        priorities: bool = False,
        parked: bool = False,
        threads: int = 0,
    ) -> None:
        self._timeout = 1e6 if deadlines else 0.0
        self._priorities = 3 if priorities else 1
        spec = replace(many(batch=batch, direct=False), threads=threads)
        self._world = Scenario(spec, limits=Limits(unsent_bytes=0))
        self._clients = [self._world.client(str(at) if connections else "") for at in range(streams)]
        self._tag = 0
        self._of: dict[int, int] = {}
        """The clients whose tickets are queued, by tag."""
        for at, client in enumerate(self._clients):
            if parked and at % 10:
                client.stream.unsent_bytes = 1
                self._ask(at)  # the oldest Infer may start
            self._ask(at)
        self._run = self._world.decide().starts[0]

    def _ask(self, at: int) -> None:
        self._tag += 1
        self._of[self._tag] = at
        priority = at % self._priorities
        self._clients[at].infer(self._tag, "many", x=(1,), timeout=self._timeout, priority=priority)

    def turns(self, count: int = 20) -> None:
        for _ in range(count):
            self.turn()

    def turn(self) -> None:
        """A run ends, its clients ask again, and the next run starts."""
        world = self._world
        tags = [part.tag for part in self._run.parts]  # type: ignore[attr-defined]  # tickets
        world.end(tags[0])
        for tag in tags:
            at = self._of.pop(tag)
            stream = self._clients[at].stream
            world.core.handed_off(stream, stream.take(), world.now)
            world.core.flushed(stream)
            self._ask(at)
        (self._run,) = world.core.decide(world.now).starts
        world.running = {part.tag: self._run for part in self._run.parts}  # type: ignore[attr-defined]  # tickets


def seconds_per_turn(streams: int, options: Options) -> float:
    situation = Situation(streams, **options)
    gc.collect()
    gc.disable()
    best = 1.0
    for _ in range(5):
        began = process_time()
        situation.turns(ROUNDS // 5)
        best = min(best, (process_time() - began) / (ROUNDS // 5))
    gc.enable()
    return best


def main() -> None:
    counts = (10, 1000, 4000)
    print(f"{'microseconds per run, streams:':36}" + "".join(f"{count:>8}" for count in counts))
    for name, options in SITUATIONS.items():
        print(f"{name:36}" + "".join(f"{1e6 * seconds_per_turn(count, options):8.1f}" for count in counts))


if __name__ == "__main__":
    main()
