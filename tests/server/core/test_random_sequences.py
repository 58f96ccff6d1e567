"""Random walks: whatever happens, an answer of a sequence follows from all the requests of it before, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from headrace.server.core.limits import Limits
from headrace.server.core.state import Stream, Ticket
from headrace.wire.errors import Internal
from tests.server.core.sequence_world import SequenceWorld, recurrent

WALKS, STEPS = 60, 400
KEEP_SECONDS = 8.0
MOVES = {"send": 80, "decide": 60, "end": 70, "read": 30, "cancel": 3, "time": 5, "rare": 2}
"""And how often each is made."""
IDS: tuple[int | str, ...] = (1, 2, 3, "a", "b")


@dataclass(eq=False)
class Sent:
    """A request, and all those of its sequence that came before it. `doomed`: it cannot be done, however it goes on."""

    tag: int
    before: list[Sent]
    doomed: bool


@dataclass(eq=False)
class History:
    """The requests of one id since the last start. `over`: no more can be done, because of its end or of the time."""

    sent: list[Sent]
    over: bool = False


class Walk:
    """What is expected is written down when a request is sent, and compared with what has come of it in the end."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        limits = Limits(
            window=8,
            unsent_bytes=self.random.choice([0, 40, 1 << 20]),
            keep_seconds=KEEP_SECONDS,
            sequences=self.random.choice([2, 100]),
            sequence_bytes=self.random.choice([1 << 30, 10_000]),
        )
        self.world = SequenceWorld(recurrent(slots=self.random.choice([1, 3])), limits=limits)
        self.sent: dict[int, Sent] = {}
        self.owners: dict[int, Stream] = {}
        self.histories: dict[int | str, History] = {}
        self.tag = 0

    def go(self) -> None:
        for _ in range(STEPS):
            self.move()
            self.check_running()
        self.finish()
        self.check()

    def move(self) -> None:
        random, world = self.random, self.world
        match random.choices([*MOVES], [*MOVES.values()])[0]:
            case "send":
                self.send()
            case "decide":
                world.starts()
            case "end" if world.running:
                world.state_bytes = random.choice([16, 2000, 4000])
                tag = random.choice([*world.running])
                world.end(tag, Internal("no") if random.random() < 0.03 else None)
            case "read":
                world.read()
            case "cancel" if self.tag:
                tag = random.randint(max(1, self.tag - 10), self.tag)
                world.core.cancel(self.owners[tag], tag, world.now)
            case "time":
                world.now += random.choice([0.1, 1, 1, 3, KEEP_SECONDS + 1])
                world.starts()
            case "rare":
                self.rare()

    def send(self) -> None:
        random, world = self.random, self.world
        self.tag += 1
        number = random.choice(IDS)
        history = self.histories.get(number)
        anew = 0.8 if history is None or history.over else 0.06
        flags = (
            random.choice(["start"] * 9 + ["start end"])
            if random.random() < anew
            else random.choice([""] * 15 + ["end"])
        )
        wrong, timeout = random.random() < 0.02, random.choice([0] * 9 + [2.0])
        if "start" in flags:
            history = self.histories[number] = History([])
        sent = Sent(self.tag, [*history.sent] if history else [], wrong or history is None or history.over)
        self.sent[self.tag] = sent
        if history is not None:
            history.sent.append(sent)
            history.over |= "end" in flags
        if random.random() < 0.3:
            self.owners[self.tag] = world.unary(self.tag, number, flags, timeout=timeout, wrong=wrong)
            return
        streams = [each for each in world.streams if not each.single]
        if len(streams) < 3:
            streams.append(world.stream(window=random.choice([2, 20])))
        stream = self.owners[self.tag] = random.choice(streams)
        world.send(stream, self.tag, number, flags, timeout=timeout, wrong=wrong)

    def rare(self) -> None:
        random, world = self.random, self.world
        if random.random() < 0.5:
            stream = random.choice(world.streams) if world.streams else None
            if stream is not None:
                world.read()
                world.core.abandon(stream, world.now)
                world.streams.remove(stream)
        else:
            world.reload(recurrent(slots=self.random.choice([1, 3])))
            world.starts()
            for history in self.histories.values():
                history.over = True

    def check_running(self) -> None:
        """Of one sequence one ticket runs at most, besides those whose results nobody wants any more."""
        parts = [running.run.parts[0] for running in self.world.running.values()]
        running = [self.sent[part.tag] for part in parts if isinstance(part, Ticket) and not part.finished]
        for each in running:
            assert not any(other in each.before for other in running), running

    def finish(self) -> None:
        world = self.world
        world.read()
        while world.running or world.starts():
            for tag in tuple(world.running):
                world.end(tag)
            world.read()
        world.after(KEEP_SECONDS)
        world.read()

    def check(self) -> None:
        world = self.world
        done = {tag for tag, end in world.ends.items() if end == "done"}
        for tag in done:
            sent = self.sent[tag]
            assert not sent.doomed, f"ticket {tag} is done"
            before = [each.tag for each in sent.before]
            assert [*world.loaded[tag]] == before, f"ticket {tag} began with {world.loaded[tag]} instead of {before}"
            assert len({id(world.specs[each]) for each in (*before, tag)}) == 1, "on one version"
        for tag, end in world.ends.items():
            if end == "FAILED_PRECONDITION":
                self.check_reason(tag)
        assert len(world.core.sequences) == 0
        assert world.core.accounts.sequences.used == 0
        for name, account in world.core.accounts.by_name():
            assert account.used == 0, name

    def check_reason(self, tag: int) -> None:
        """A request that comes after an end was told which; and nothing ends without a reason."""
        sent = self.sent[tag]
        message = self.world.message(tag)
        gap = [each for each in sent.before if self.world.ends.get(each.tag) != "done"]
        late = "had no request" in message or "unloaded or replaced" in message
        assert sent.doomed or gap or late or "another one" in message, (tag, message)


@pytest.mark.parametrize("seed", range(WALKS))
def test_walks(seed: int) -> None:
    Walk(seed).go()
