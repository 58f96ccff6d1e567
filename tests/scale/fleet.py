"""A fleet in virtual time: streams that age, servers that are restarted, and a proxy that spreads streams.

    python -m tests.scale.fleet --servers 100 --streams 1000000 --age 3600 --choices 10

Pure: a heap of events. The ages are those of `headrace.server.core.stream_ends`, the choice is Envoy's LEAST_REQUEST:
of some servers drawn at random, the one with the fewest streams.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from headrace.server.core.stream_ends import GOLDEN, JITTER


class Restart(NamedTuple):
    """A server that takes no streams from `begins` on for `seconds`. Those that it has move at once."""

    server: int
    begins: float
    seconds: float


@dataclass(slots=True)
class Seen:
    """What has happened. `loads` are the streams of each server, every so often, with the time."""

    loads: list[tuple[float, Sequence[int]]]
    moves: Counter[int]
    """Streams that have moved because of their age, in each second."""
    arrivals: Counter[tuple[int, int]]
    """Streams that have come to a server, in each second."""


class Fleet:
    """`choices`: of how many servers the proxy takes the one with the fewest streams. `age` in seconds, 0 for none."""

    def __init__(self, servers: int, streams: int, age: float, choices: int, random: Random) -> None:
        self._age = age
        self._choices = min(choices, servers)
        self._random = random
        self._opened = [0] * servers
        self._up = [True] * servers
        self._homes = [0] * streams
        self._lives = [0] * streams
        """How often each stream has moved: an entry of an earlier life has no effect."""
        self._here: list[set[int]] = [set() for _ in range(servers)]
        self._queue: list[tuple[float, int, int, int]] = []
        self._order = itertools.count()
        self.seen = Seen([], Counter(), Counter())

    @property
    def loads(self) -> list[int]:
        return [len(here) for here in self._here]

    def open_all(self, within: float) -> None:
        """All streams are opened, spread over so many seconds."""
        for stream in range(len(self._homes)):
            self._place(stream, within * self._random.random())

    def run(self, until: float, restarts: Sequence[Restart] = (), every: float = 1.0) -> None:
        """Let time pass, and look at the loads every so many seconds."""
        changes = sorted(_changes(restarts))
        looks = itertools.takewhile(lambda at: at <= until, (every * number for number in itertools.count(1)))
        for at in looks:
            while changes and changes[0][0] <= at:
                when, server, up = changes.pop(0)
                self._age_until(when)
                self._set(server, up=up, now=when)
            self._age_until(at)
            self.seen.loads.append((at, self.loads))

    def _age_until(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            now, _, stream, life = heapq.heappop(self._queue)
            if self._lives[stream] == life:
                self.seen.moves[int(now)] += 1
                self._here[self._homes[stream]].discard(stream)
                self._place(stream, now)

    def _set(self, server: int, *, up: bool, now: float) -> None:
        self._up[server] = up
        if not up:
            leaving, self._here[server] = self._here[server], set()
            for stream in leaving:
                self._place(stream, now)

    def _place(self, stream: int, now: float) -> None:
        home = self._least()
        self._homes[stream] = home
        self._here[home].add(stream)
        self._lives[stream] += 1
        self.seen.arrivals[home, int(now)] += 1
        if self._age:
            self._opened[home] += 1
            early = JITTER * (self._opened[home] * GOLDEN % 1.0)
            due = now + self._age * (1.0 - early)
            heapq.heappush(self._queue, (due, next(self._order), stream, self._lives[stream]))

    def _least(self) -> int:
        """Of some that are up."""
        best = -1
        drawn = 0
        while drawn < self._choices:
            server = int(self._random.random() * len(self._up))
            if not self._up[server]:
                continue
            drawn += 1
            if best < 0 or len(self._here[server]) < len(self._here[best]):
                best = server
        return best


def _changes(restarts: Sequence[Restart]) -> Iterator[tuple[float, int, bool]]:
    for restart in restarts:
        yield restart.begins, restart.server, False
        yield restart.begins + restart.seconds, restart.server, True


def even_after(seen: Seen, since: float, within: float = 0.1) -> float:
    """Seconds after which no server has more or less than a tenth beside the mean; infinity for never."""
    for at, loads in seen.loads:
        mean = sum(loads) / len(loads)
        if at >= since and all(abs(load - mean) <= within * mean for load in loads):
            return at - since
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--age", type=float, default=3600.0)
    parser.add_argument("--choices", type=int, default=10)
    given = parser.parse_args()
    fleet = Fleet(given.servers, given.streams, given.age, given.choices, Random(1))
    fleet.open_all(given.age or 3600.0)
    begins, down = 2 * (given.age or 3600.0), 30.0
    fleet.run(begins + down + 2 * (given.age or 3600.0), [Restart(0, begins, down)], every=10.0)
    seen = fleet.seen
    steady = [seen.moves[second] for second in range(int(begins) - 600, int(begins))]
    burst = max(count for (server, second), count in seen.arrivals.items() if second == int(begins) and server)
    after = max(count for (server, second), count in seen.arrivals.items() if second > begins + down and not server)
    print(
        f"{given.servers} servers, {given.streams} streams, age {given.age:g} s, the least of {given.choices}: "
        f"{sum(steady) / len(steady):.0f} moves a second, at most {max(steady)}; a restart brings each other server "
        f"{burst} streams at once; even again after {even_after(seen, begins + down):g} s, in which the new one gets "
        f"at most {after} in a second"
    )


if __name__ == "__main__":
    main()
