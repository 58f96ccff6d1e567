"""Sequences: the order of their tickets, what they begin with, and where they start and end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.server.core.sequences import SEQUENCE_BYTES, Step
from headrace.wire.errors import InvalidArgument
from tests.server.core.model_specs import step as plain_model
from tests.server.core.sequence_world import SequenceWorld, part_of, recurrent


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

    def test_the_ids_of_a_client_are_its_own(self) -> None:
        world = SequenceWorld()
        stream, alice, bob = world.stream(), "alice", "bob"
        for tag, client in enumerate((alice, bob, None), 1):
            world.send(stream, tag, 7, "start", client=client)
            world.send(stream, 10 + tag, 7, client=client)
        world.runs()
        assert [world.loaded[tag] for tag in (11, 12, 13)] == [(1,), (2,), (3,)]
        world.core.miss_step("m", Step(7, client=alice), InvalidArgument("no"))
        for tag, client in enumerate((alice, bob, None), 21):
            world.send(stream, tag, 7, client=client)
        world.runs()
        assert [world.ends[tag] for tag in (21, 22, 23)] == ["FAILED_PRECONDITION", "done", "done"]
        assert world.errors[21].message.startswith("sequence 7 of model 'm' has ended: ")

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
