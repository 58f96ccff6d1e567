"""Refusals, bad content, and what cannot have a ticket: none of them takes or releases anything."""

from __future__ import annotations

import gc
import weakref

import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.engine_api import Ended
from headrace.server.core.events import Failed
from headrace.server.core.limits import Limits
from headrace.server.version import BUILD
from headrace.v1 import inference_pb2 as pb
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import Internal, InvalidArgument, Unimplemented
from headrace.wire.frames import parse_frame
from tests.server.core.model_specs import FakeTensor, model, port
from tests.server.core.scenario import Client, Scenario


def waits(client: Client) -> list[int]:
    """Tickets whose kept outputs are still there."""
    return [tag for tag, ticket in client.stream.tickets.items() if ticket.own]


class TestRefused:
    def test_an_infer_over_the_window_is_refused(self) -> None:
        world = Scenario(limits=Limits(window=2))
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2)
        client.infer(3, x="take 1.y")
        client.fetch(4, "1.y")
        assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED", "failed 4 RESOURCE_EXHAUSTED"]
        for tag in (3, 4):
            assert client.errors[tag].retryable
            assert "2 tickets are in flight" in client.errors[tag].message
        assert waits(client) == [1]
        assert world.runs() == [1, 2]
        assert client.stream.in_flight == 2
        assert client.receives() == ["done 1", "done 2"]
        client.infer(3, x="take 1.y")
        assert world.runs() == [3]

    def test_an_infer_over_the_budget_of_input_bytes_is_refused(self) -> None:
        world = Scenario(limits=Limits(queue_bytes=40))
        alice, bob = world.client(), world.client()
        alice.infer(1, keep=["y"])
        bob.infer(11)
        alice.infer(2, "add", a="take 1.y")
        assert alice.receives() == ["failed 2 RESOURCE_EXHAUSTED"]
        assert alice.errors[2].retryable
        assert "16 more input bytes do not fit: this stream has 16 bytes" in alice.errors[2].message
        assert waits(alice) == [1]
        alice.infer(2, x="1.y")
        assert world.runs() == [1, 11, 2]
        assert world.core.accounts.queue.used == 0

    def test_a_message_is_charged_once_until_the_last_of_its_infers_needs_it_no_longer(self) -> None:
        world = Scenario(slots=2, limits=Limits(queue_bytes=100))
        client = world.client()
        number = client.define(Call("step", "", (Inline("x", 11, (4,)),), (), False, ()))
        charge = world.core.charge(client.stream, 90)
        for tag in (1, 2, 3):
            world.core.infer(client.stream, tag, number, [bytes(16)], charge, world.now)
        assert world.core.accounts.queue.used == 90
        assert world.starts() == [1, 2]
        world.end(1)
        client.cancel(2)
        assert world.core.accounts.queue.used == 90
        client.cancel(3)
        assert world.core.accounts.queue.used == 90
        world.end(2)
        assert world.core.accounts.queue.used == 0
        client.infer(4)
        assert world.runs() == [4]

    def test_a_draining_server_refuses_infers(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.core.drain(world.now)
        client.infer(2, x="take 1.y")
        client.infer(3, tensors=[])
        assert client.receives() == ["draining", "failed 2 UNAVAILABLE", "failed 3 UNAVAILABLE"]
        assert client.errors[2].retryable
        assert waits(client) == [1]

    def test_a_refused_tag_stays_free(self) -> None:
        world = Scenario(limits=Limits(window=1))
        client = world.client()
        client.infer(1)
        client.infer(2)
        world.runs()
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED", "done 1"]
        client.infer(2)
        assert world.runs() == [2]


class TestBadContent:
    def test_bad_content_is_admitted_and_failed_in_one_step(self) -> None:
        world = Scenario(limits=Limits(window=1))
        client = world.client()
        client.infer(1, tensors=[bytes(15)])
        assert client.stream.in_flight == 1
        client.infer(2)
        assert client.receives() == ["failed 1 INVALID_ARGUMENT", "failed 2 RESOURCE_EXHAUSTED"]
        assert not client.errors[1].retryable
        assert client.live == set()
        assert world.core.accounts.queue.used == 0

    @pytest.mark.parametrize(
        ("wrong", "culprit"),
        [
            ({"b": (3,)}, "input 'b' has shape [3]"),
            ({"tensors": [bytes(16)] * 2}, "the Infer has 2 tensors, but its call has 1 inline inputs"),
            ({"tensors": [bytes(17)]}, "input 'b' has 17 bytes, FP32[4] takes 16"),
            ({"priority": 10}, "priority 10"),
        ],
    )
    def test_bad_content_takes_nothing(self, wrong: dict[str, object], culprit: str) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, "add", a="take 1.y", **wrong)  # type: ignore[arg-type]
        assert client.receives() == ["failed 2 INVALID_ARGUMENT"]
        assert culprit in client.errors[2].message
        assert waits(client) == [1]
        client.infer(2, "add", a="take 1.y")
        assert world.runs() == [1, 2]
        assert client.receives() == ["done 1", "done 2"]

    def test_strings_are_checked_before_they_run(self) -> None:
        text = port(0, "text", None, datatype=Datatype.BYTES)
        world = Scenario(model("read", [text], [port(0, "y", 4)]))
        client = world.client()
        client.infer(1, "read", text=(2,), tensors=[b"\1\0\0\0a\2\0\0\0b"])
        client.infer(2, "read", text=(2,), tensors=[b"\1\0\0\0a\1\0\0\0b"])
        assert client.receives() == ["failed 1 INVALID_ARGUMENT"]
        assert client.errors[1].message == "input 'text': element 1 claims 2 bytes, but only 1 are left"
        assert world.runs() == [2]

    def test_bad_content_of_one_reference_leaves_the_other_source_alone(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, "add", a="take 1.y", b="take 9.y")
        assert client.receives() == ["failed 2 FAILED_PRECONDITION"]
        assert waits(client) == [1]
        assert world.runs() == [1]

    def test_a_wrong_number_of_sources_is_bad_content(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="1.y")
        for sources in ((), (1, 1)):
            world.core.infer(client.stream, 3, 2, [], world.core.charge(client.stream, 0), world.now, sources=sources)
            assert client.receives() == ["failed 3 INVALID_ARGUMENT"]
            assert f"the Infer has {len(sources)} sources, but its call has 1" in client.errors[3].message

    def test_a_number_that_was_never_defined_is_bad_content(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.infer(client.stream, 1, 77, [], world.core.charge(client.stream, 0), world.now)
        assert client.receives() == ["failed 1 INVALID_ARGUMENT"]
        assert "call 77 is not defined" in client.errors[1].message


@pytest.mark.skipif(BUILD == "compiled", reason="compiled code takes only bytes, which cannot be referred to weakly")
def test_an_unsent_failure_does_not_keep_the_message_in_memory() -> None:
    """A client that does not read would fill it with messages that no budget counts."""
    gc.collect()
    gc.disable()
    try:
        world = Scenario()
        client = world.client()
        client.infer(1, "grow", keep=["y"])
        client.infer(2, "add", a="1.y")
        alive: list[weakref.ref[memoryview]] = []
        for tag, number, size, sources in (
            (3, 77, 16, ()),
            (4, 1, 15, ()),
            (5, 2, 16, (9,)),
            (6, 2, 16, (1, 1)),
            (1, 1, 16, ()),
            (0, 1, 16, ()),
        ):
            data = memoryview(bytearray(size))
            alive.append(weakref.ref(data))
            charge = world.core.charge(client.stream, 16)
            world.core.infer(client.stream, tag, number, [data], charge, world.now, sources=sources)
            del data
        try:
            data = memoryview(b"\xff" * 100)
            alive.append(weakref.ref(data))
            try:
                parse_frame(data, pb.ClientFrame())  # type: ignore[arg-type]
            finally:
                del data
        except InvalidArgument as error:
            world.core.reject(client.stream, error)
        assert world.starts() == [1]
        run = world.running[1]
        tensor = FakeTensor(Datatype.FP32, (4,))
        alive.append(weakref.ref(tensor))  # type: ignore[arg-type]
        world.core.run_ended(Ended(run, [[tensor]], [[tensor]]), Internal("the run failed"), world.now)
        del tensor
        assert len(client.stream.outbox) == 9
        assert [ref() for ref in alive] == [None] * len(alive)
        for event in client.stream.outbox:
            assert isinstance(event, Failed)
            assert (event.error.__traceback__, event.error.__context__, event.error.__cause__) == (None, None, None)
    finally:
        gc.enable()


class TestWithoutTicket:
    def test_tag_zero_is_rejected(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(0)
        client.fetch(0, "1.y")
        assert client.receives() == ["failed 0 INVALID_ARGUMENT"] * 2
        assert "tag must not be 0" in client.errors[0].message
        assert client.live == set()

    def test_a_tag_that_is_live_is_rejected_and_its_ticket_unharmed(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(7, keep=["y"])
        client.infer(8, x="7.y")
        for _ in range(2):
            client.infer(7, x="take 7.y")
            client.fetch(7, "7.y")
            client.infer(8)
            assert client.receives() == ["failed 0 INVALID_ARGUMENT"] * 3
            assert "tag 8 is live" in client.errors[0].message
        assert world.runs() == [7, 8]
        client.infer(7)
        client.infer(8)
        assert client.receives() == ["done 7", "done 8", *["failed 0 INVALID_ARGUMENT"] * 2]
        client.infer(7)
        client.infer(8)
        assert client.receives() == ["failed 0 INVALID_ARGUMENT"]
        assert "tag 7 is live" in client.errors[0].message
        assert world.runs() == [8]

    def test_a_service_may_reject_what_it_cannot_read(self) -> None:
        world = Scenario()
        client = world.client()
        world.core.reject(client.stream, Unimplemented("command kind 99 is unknown"))
        assert client.receives() == ["failed 0 UNIMPLEMENTED"]
        assert client.errors[0].message == "command kind 99 is unknown"
        world.core.open(client.stream, True, 0)
        assert client.receives() == ["failed 0 INVALID_ARGUMENT"]

    def test_a_live_tag_is_reported_before_any_refusal(self) -> None:
        world = Scenario(limits=Limits(window=1))
        client = world.client()
        client.infer(1)
        world.core.drain(world.now)
        client.infer(1)
        client.infer(0)
        assert client.receives() == ["draining", *["failed 0 INVALID_ARGUMENT"] * 2]

    def test_release_and_cancel_of_what_is_not_there_are_ignored(self) -> None:
        world = Scenario()
        client = world.client()
        client.fetch(1, "9.y")
        for tag in (0, 1, 2):
            client.release(tag)
            client.cancel(tag)
        assert client.receives() == ["failed 1 NOT_FOUND"]


def test_an_ended_stream_admits_nothing() -> None:
    world = Scenario()
    client = world.client()
    client.vanish()
    client.infer(1)
    client.fetch(2, "1.y")
    client.infer(0)
    client.release(1)
    client.cancel(1)
    client.half_close()
    assert world.starts() == []
    assert client.receives() == []
    assert client.live == set()
    assert client.stream.in_flight == 0
    assert world.core.accounts.queue.used == 0
    assert not world.core.streams
