"""How many sequences there may be, and how much their variables may hold."""

from __future__ import annotations

from headrace.server.core.limits import Limits
from headrace.server.core.sequences import MAX_REMEMBERED, SEQUENCE_BYTES
from tests.server.core.sequence_world import SequenceWorld


class TestBounds:
    def test_how_many_there_may_be(self) -> None:
        world = SequenceWorld(limits=Limits(sequences=2))
        stream = world.stream()
        for tag in (1, 2, 3):
            world.send(stream, tag, tag, "start")
        world.send(stream, 4, 2, "start")
        world.send(stream, 5, 3, "start end")
        world.send(stream, 6, 1, "end")
        world.send(stream, 7, 3, "start")
        world.runs()
        assert {tag for tag, end in world.ends.items() if end != "done"} == {3}
        assert world.ends[3] == "RESOURCE_EXHAUSTED"
        assert world.message(3) == (
            f"no further sequence can begin: 2 of 2 are live, with {2 * SEQUENCE_BYTES} of {1 << 30} bytes"
        )
        assert world.errors[3].retryable

    def test_what_their_variables_hold_is_charged(self) -> None:
        world = SequenceWorld(limits=Limits(sequence_bytes=10_000))
        stream = world.stream()
        world.state_bytes = 6000
        world.send(stream, 1, 1, "start")
        world.runs()
        assert world.charged == 6000
        world.state_bytes = 4000
        world.send(stream, 2, 2, "start")
        world.runs()
        assert world.charged == 10_000
        world.send(stream, 3, 3, "start")
        world.send(stream, 4, 1)
        world.runs()
        assert world.charged == 8000
        assert world.ends == {1: "done", 2: "done", 3: "RESOURCE_EXHAUSTED", 4: "done"}
        world.state_bytes = 6001
        world.send(stream, 5, 2)
        world.send(stream, 6, 2)
        world.runs()
        assert world.ends[5] == "RESOURCE_EXHAUSTED"
        assert world.ends[6] == "FAILED_PRECONDITION"
        assert (
            world.message(5)
            == "the variables of sequence 2 of model 'm' take 6001 bytes; all sequences have 8000 of 10000 bytes"
        )
        assert world.charged == 4000

    def test_they_count_against_the_budget_of_the_process(self) -> None:
        world = SequenceWorld(limits=Limits(memory=1 << 20))
        world.send(world.stream(), 1, 1, "start")
        world.state_bytes = 600_000
        world.runs()
        assert world.ends == {1: "RESOURCE_EXHAUSTED"}
        assert world.core.accounts.memory.used == 0

    def test_what_is_remembered_is_bounded(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=1, sequences=100))
        stream = world.stream(window=1)
        for tag in range(1, MAX_REMEMBERED + 200):
            world.send(stream, tag, tag, "start", wrong=True)
            world.runs()
        assert len(world.core.sequences._ended) == MAX_REMEMBERED
