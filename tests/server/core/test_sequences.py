"""Sequences: the order of their tickets, what they begin with, how they end, and how many there may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.limits import Limits
from headrace.server.core.sequences import MAX_REMEMBERED, SEQUENCE_BYTES, Step
from headrace.wire.errors import Internal, InvalidArgument
from tests.server.core.model_specs import step as plain_model
from tests.server.core.sequence_world import SequenceWorld, part_of, recurrent

ENDED = "; begin a new one with sequence_start"


class TestOrder:
    def test_each_ticket_begins_with_what_the_one_before_has_left(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 7)
        world.send(stream, 3, 7, "end")
        assert world.runs() == [1, 2, 3]
        assert world.loaded == {1: (), 2: (1,), 3: (1, 2)}
        assert set(world.ends.values()) == {"done"}

    def test_one_at_a_time_and_others_beside(self) -> None:
        world = SequenceWorld(recurrent(slots=4))
        stream = world.stream()
        for tag, sequence in ((1, 7), (2, 8), (3, "seven")):
            world.send(stream, tag, sequence, "start")
            world.send(stream, 10 + tag, sequence)
        assert world.starts() == [1, 2, 3]
        world.end(2)
        assert world.starts() == [12]
        assert world.loaded[12] == (2,)

    def test_across_streams_and_calls(self) -> None:
        world = SequenceWorld()
        first, second = world.stream(), world.stream()
        world.send(first, 1, 7, "start")
        world.send(second, 2, 7)
        world.unary(3, 7)
        world.send(first, 4, 7)
        assert world.runs() == [1, 2, 3, 4]
        assert world.loaded[4] == (1, 2, 3)

    def test_the_id_of_a_number_is_not_that_of_its_digits(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, "7")
        world.runs()
        assert world.ends == {1: "done", 2: "FAILED_PRECONDITION"}

    def test_without_a_sequence_a_request_of_another_protocol_begins_anew(self) -> None:
        """The native stream has no sequences: its clients carry the state themselves."""
        world = SequenceWorld()
        stream = world.stream()
        call = world._calls
        world.send(stream, 1, 7, "start")
        world.runs()
        (defined,) = call.values()
        world.core.infer(stream, 2, defined, [bytes(16)], world.core.charge(stream, 16), world.now)
        assert world.runs() == [2]
        assert world.loaded[2] == ()
        assert not world.core.sequences.times.first > world.now + 400

    def test_only_a_ticket_that_another_may_follow_gives_its_variables(self) -> None:
        world = SequenceWorld(recurrent(slots=4))
        stream = world.stream()
        world.send(stream, 1, 1, "start")
        world.send(stream, 2, 2, "start end")
        world.send(stream, 3, 3, "start")
        world.starts()
        assert [part_of(world, tag).wants_variables for tag in (1, 2, 3)] == [True, False, True]
        world.send(stream, 4, 3, "end")
        assert part_of(world, 3).wants_variables
        world.core.cancel(stream, 4, world.now)
        assert not part_of(world, 3).wants_variables
        for tag in (1, 2, 3):
            world.end(tag)
        assert len(world.core.sequences) == 1


class TestStartAndEnd:
    def test_a_ticket_of_no_live_sequence_fails(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7)
        world.send(stream, 2, "é", "end")
        world.runs()
        assert set(world.ends.values()) == {"FAILED_PRECONDITION"}
        assert world.message(1) == "there is no sequence 7 of model 'm'; its first request needs sequence_start"
        assert world.message(2) == "there is no sequence 'é' of model 'm'; its first request needs sequence_start"

    def test_the_end_of_a_sequence(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 7, "end")
        world.send(stream, 3, 7)
        world.send(stream, 4, 7, "start end")
        world.send(stream, 5, 7)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "FAILED_PRECONDITION", 4: "done", 5: "FAILED_PRECONDITION"}
        assert world.loaded[4] == ()
        assert world.charged == 0

    def test_a_start_begins_anew_without_waiting_for_those_before(self) -> None:
        world = SequenceWorld(recurrent(slots=4))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 7)
        world.send(stream, 3, 7, "start")
        world.send(stream, 4, 7)
        assert world.starts() == [1, 3]
        world.end(3)
        world.end(1)
        assert sorted(world.runs()) == [2, 4]
        assert (world.loaded[2], world.loaded[4]) == ((1,), (3,))
        assert world.charged == SEQUENCE_BYTES

    @pytest.mark.parametrize("flags", ["", "start", "end"])
    def test_a_model_with_sequences_needs_an_id(self, flags: str) -> None:
        world = SequenceWorld()
        world.send(world.stream(), 1, 0, flags)
        world.runs()
        assert world.ends == {1: "INVALID_ARGUMENT"}
        assert world.message(1) == "model 'm' keeps its state by sequence: a request of it needs a sequence_id"

    def test_a_long_id_is_refused(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, "é" * 64, "start")
        world.send(stream, 2, "é" * 65, "start")
        world.runs()
        assert world.ends == {1: "done", 2: "INVALID_ARGUMENT"}
        assert world.message(2) == "the sequence_id has 130 bytes; the limit is 128"

    def test_a_model_without_variables_ignores_sequences(self) -> None:
        world = SequenceWorld(replace(plain_model(), name="m", outputs=recurrent().outputs))
        stream = world.stream()
        world.send(stream, 1, 7)
        world.send(stream, 2, 0, "end")
        assert world.runs() == [1, 2]

    @pytest.mark.parametrize(("sequence", "flags"), [(7, "start"), ("seven", ""), (0, "end")])
    def test_a_model_whose_variables_are_reset_refuses_them(self, sequence: int | str, flags: str) -> None:
        world = SequenceWorld(replace(recurrent(), sequences=False))
        stream = world.stream()
        world.send(stream, 1, sequence, flags)
        world.send(stream, 2, 0)
        world.runs()
        assert world.ends == {1: "UNIMPLEMENTED", 2: "done"}
        assert world.message(1) == (
            "model 'm' has variables, which are reset before each inference, so it has no sequences; the server keeps "
            "the variables with --state=sequence, or clients do with --state=ports"
        )


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


class TestTime:
    def test_a_sequence_without_a_ticket_ends(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=5))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.runs()
        assert world.core.decide(world.now).wake_at == world.now + 5
        world.after(4)
        world.send(stream, 2, 7)
        world.runs()
        world.after(4.9)
        assert world.charged == SEQUENCE_BYTES
        world.after(0.1)
        assert world.charged == 0
        world.send(stream, 3, 7)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "FAILED_PRECONDITION"}
        assert world.message(3) == f"sequence 7 of model 'm' has ended: it had no request for 5 s{ENDED}"

    def test_not_while_a_ticket_is_in_flight(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=5))
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.starts()
        world.after(60)
        world.send(stream, 2, 7)
        world.end(1)
        assert world.runs() == [2]
        world.send(stream, 3, 7)
        world.starts()
        world.after(60)
        world.end(3)
        world.send(stream, 4, 7)
        assert world.runs() == [4]

    def test_what_is_remembered_is_bounded(self) -> None:
        world = SequenceWorld(limits=Limits(keep_seconds=1, sequences=100))
        stream = world.stream(window=1)
        for tag in range(1, MAX_REMEMBERED + 200):
            world.send(stream, tag, tag, "start", wrong=True)
            world.runs()
        assert len(world.core.sequences._ended) == MAX_REMEMBERED


class TestModels:
    @pytest.mark.parametrize("unload", [False, True])
    def test_a_version_that_goes_ends_its_sequences(self, unload: bool) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.send(stream, 2, 7)
        world.send(stream, 3, 8, "start end")
        world.starts()
        if unload:
            world.core.models.remove("m", "1", "has been unloaded")
            world.starts()
        world.reload()
        world.send(stream, 4, 7)
        for tag in (1, 3):
            world.end(tag)
        world.runs()
        assert world.ends == {1: "done", 2: "done", 3: "done", 4: "FAILED_PRECONDITION"}
        assert world.message(4) == (
            f"sequence 7 of model 'm' has ended: version 1 of the model was unloaded or replaced{ENDED}"
        )
        assert world.charged == 0
        world.send(stream, 5, 7, "start")
        world.send(stream, 6, 7)
        assert world.runs() == [5, 6]
        assert world.specs[6] is not world.specs[2]

    def test_a_sequence_stays_on_its_version(self) -> None:
        world = SequenceWorld()
        stream = world.stream()
        world.send(stream, 1, 7, "start")
        world.runs()
        world.core.models.add(recurrent(version="2"))
        world.send(stream, 2, 7)
        world.send(stream, 3, 8, "start")
        world.send(stream, 4, 7, version="1")
        world.runs()
        assert [world.specs[tag].version for tag in (1, 2, 3, 4)] == ["1", "1", "2", "1"]
        world.send(stream, 5, 7, version="2")
        world.send(stream, 6, 8, "start", version="1")
        world.runs()
        assert world.ends[5] == "FAILED_PRECONDITION"
        assert world.message(5) == "sequence 7 of model 'm' runs on version 1, not on 2"
        assert world.specs[6].version == "1"


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
