"""Sequences one of whose requests is not answered with its result."""

from __future__ import annotations

from headrace.server.core.sequences import Step
from headrace.wire.errors import Internal, InvalidArgument
from tests.server.core.sequence_world import ENDED, SequenceWorld


class TestBreaks:
    """A ticket that does not end as done: those behind it fail, those before it do not."""

    def three(self) -> SequenceWorld:
        world = SequenceWorld()
        stream = world.stream()
        for tag, flags in ((1, "start"), (2, ""), (3, "")):
            world.send(stream, tag, 7, flags)
        assert world.starts() == [1]
        return world

    def later(self, world: SequenceWorld) -> str:
        """What whoever comes later is told."""
        world.send(world.streams[0], 99, 7)
        world.runs()
        assert world.ends.pop(99) == "FAILED_PRECONDITION"
        return world.message(99)

    def test_a_run_that_fails(self) -> None:
        world = self.three()
        world.end(1, Internal("no"))
        assert self.later(world) == f"sequence 7 of model 'm' has ended: a request of it ended with INTERNAL{ENDED}"
        assert world.ends == {1: "INTERNAL", 2: "FAILED_PRECONDITION", 3: "FAILED_PRECONDITION"}
        assert world.message(2) == world.message(3) == world.message(99)
        assert world.charged == 0

    def test_a_cancelled_ticket(self) -> None:
        world = self.three()
        world.core.cancel(world.streams[0], 2, world.now)
        world.end(1)
        assert self.later(world) == f"sequence 7 of model 'm' has ended: a request of it was cancelled{ENDED}"
        assert world.ends == {1: "done", 2: "CANCELLED", 3: "FAILED_PRECONDITION"}

    def test_a_ticket_past_its_deadline(self) -> None:
        world = self.three()
        world.send(world.streams[0], 4, 7, timeout=1)
        world.send(world.streams[0], 5, 7)
        assert world.after(1) == []
        world.end(1)
        assert "ended with DEADLINE_EXCEEDED" in self.later(world)
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "DEADLINE_EXCEEDED", 5: "FAILED_PRECONDITION"}
        assert world.charged == 0

    def test_a_client_that_vanishes_with_a_ticket_in_flight(self) -> None:
        world = SequenceWorld()
        kept, lost = world.stream(), world.stream()
        world.send(kept, 1, 7, "start")
        world.send(lost, 2, 7)
        world.send(kept, 3, 7)
        world.send(lost, 4, 8, "start")
        world.starts()
        world.core.abandon(lost, world.now)
        world.end(1)
        assert self.later(world) == f"sequence 7 of model 'm' has ended: a request of it was cancelled{ENDED}"
        assert world.ends == {1: "done", 3: "FAILED_PRECONDITION"}
        assert len(world.core.sequences) == 0

    def test_a_client_that_vanishes_with_none(self) -> None:
        """A sequence belongs to no connection."""
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.runs()
        world.core.abandon(stream, world.now)
        world.unary(2, 7)
        assert world.runs() == [2]
        assert world.loaded[2] == (1,)

    def test_a_ticket_with_bad_content(self) -> None:
        world = self.three()
        world.send(world.streams[0], 4, 7, wrong=True)
        world.end(1)
        assert "ended with INVALID_ARGUMENT" in self.later(world)
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "INVALID_ARGUMENT"}

    def test_a_start_that_fails_does_not_leave_the_old_sequence(self) -> None:
        world = self.three()
        world.send(world.streams[0], 4, 7, "start", wrong=True)
        world.end(1)
        assert "ended with INVALID_ARGUMENT" in self.later(world)
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "INVALID_ARGUMENT"}

    def test_a_first_start_that_fails(self) -> None:
        world = SequenceWorld()
        world.send(world.stream(), 1, 7, "start", wrong=True)
        assert "ended with INVALID_ARGUMENT" in self.later(world)

    def test_a_request_that_never_became_a_ticket(self) -> None:
        world = self.three()
        world.core.miss_step("m", Step(7), InvalidArgument("no"))
        world.core.miss_step("n" * 1000, Step(7, start=True), InvalidArgument("no"))
        world.end(1)
        assert "ended with INVALID_ARGUMENT" in self.later(world)
        assert world.ends == {1: "done", 2: "done", 3: "done"}
        assert len(world.core.sequences._ended) == 1

    def test_a_refused_request(self) -> None:
        world = SequenceWorld()
        stream = world.stream(window=2)
        for tag, flags in ((1, "start"), (2, ""), (3, "")):
            world.send(stream, tag, 7, flags)
        world.runs()
        assert "ended with RESOURCE_EXHAUSTED" in self.later(world)
        assert world.ends == {1: "done", 2: "done", 3: "RESOURCE_EXHAUSTED"}

    def test_draining_finishes_what_is_in_flight(self) -> None:
        world = self.three()
        world.core.drain(world.now)
        world.send(world.streams[0], 4, 7)
        world.end(1)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "UNAVAILABLE"}

    def test_a_new_start_repairs_it(self) -> None:
        world = self.three()
        world.end(1, Internal("no"))
        world.send(world.streams[0], 4, 7, "start")
        world.send(world.streams[0], 5, 7)
        assert world.runs() == [4, 5]
        assert world.loaded[5] == (4,)
        world.send(world.streams[0], 6, 7, "end")
        world.send(world.streams[0], 7, 7)
        world.runs()
        assert world.message(7) == "there is no sequence 7 of model 'm'; its first request needs sequence_start"
