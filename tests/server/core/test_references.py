"""References: an input that is a kept output of an earlier ticket of the same stream."""

from __future__ import annotations

import pytest

from headrace.server.core.events import Done
from headrace.server.core.limits import Limits
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import FailedPrecondition, InvalidArgument
from tests.server.core.model_specs import model, port
from tests.server.core.scenario import Scenario


def test_a_ticket_waits_for_its_source_and_gets_its_tensor() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y", outputs=["y"])
    assert world.starts() == [1]
    assert world.starts() == []
    world.end(1)
    assert world.starts() == [2]
    (tensor,) = world.part(2).references
    kept = client.stream.tickets[1].own[0]
    assert tensor is kept.tensor
    assert tensor is not None
    world.end(2)
    assert client.receives() == ["done 1", "done 2"]


def test_a_reference_to_a_source_that_is_done_does_not_wait() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    assert world.runs() == [1]
    assert client.receives() == ["done 1"]
    client.infer(2, x="1.y")
    assert world.starts() == [2]


def test_the_times_of_a_ticket_are_waiting_queued_and_running() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    assert world.starts() == [1]
    world.after(2)
    world.end(1)
    world.now += 3
    assert world.starts() == [2]
    world.after(4)
    world.end(2)
    client.receives()
    done = client.events[2]
    assert isinstance(done, Done)
    assert (done.waiting, done.queued, done.running) == (2, 3, 4)


def test_a_reference_may_use_any_name_of_an_output() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["yes"])
    client.infer(2, x="1.y")
    client.infer(3, x="1.yes")
    assert world.runs() == [1, 2, 3]


def test_a_ticket_may_refer_to_one_output_twice() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, "add", a="1.y", b="take 1.y")
    assert world.starts() == [1]
    world.end(1)
    assert world.starts() == [2]
    one, other = world.part(2).references
    assert one is other
    world.end(2)
    assert client.receives() == ["done 1", "done 2"]
    assert client.live == set()
    assert world.core.accounts.keep.used == 0


def test_a_ticket_waits_for_all_of_its_sources() -> None:
    world = Scenario(slots=2)
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, keep=["y"])
    client.infer(3, "add", a="1.y", b="2.y")
    assert world.starts() == [1, 2]
    world.end(2)
    assert world.starts() == []
    world.end(1)
    assert world.starts() == [3]


def test_a_chain_runs_in_its_order() -> None:
    world = Scenario(slots=4)
    client = world.client()
    client.infer(1, keep=["y"])
    for tag in range(2, 100):
        client.infer(tag, x=f"take {tag - 1}.y", keep=["y"])
    assert world.runs() == [*range(1, 100)]
    assert client.receives() == [f"done {tag}" for tag in range(1, 100)]
    assert client.live == {99}


WRONG = {
    "unknown": ("9.y", "no such ticket is live"),
    "own": ("5.y", "no such ticket is live"),
    "only sent": ("1.z", "was not named in keep"),
    "no such output": ("1.nothing", "has no output 'nothing'"),
    "failed": ("2.y", "ended without a result"),
    "cancelled": ("3.y", "ended without a result"),
    "a Fetch": ("4.y", "is a Fetch"),
}


@pytest.mark.parametrize(("source", "why"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("take", ["", "take "])
def test_a_reference_to_what_is_not_there_fails_and_names_it(source: str, why: str, take: str) -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"], outputs=["z"])
    client.infer(2, keep=["y"], tensors=[b"too short"])
    client.infer(3, keep=["y"])
    client.cancel(3)
    client.fetch(4, "1.y")
    client.infer(5, x=take + source)
    world.runs()
    assert "failed 5 FAILED_PRECONDITION" in client.receives()
    error = client.errors[5]
    tag, output = source.split(".")
    assert f"output '{output}' of ticket {tag}" in error.message
    assert why in error.message
    assert isinstance(error, FailedPrecondition)
    assert not error.retryable


def test_released_taken_and_expired_outputs_cannot_be_referred_to() -> None:
    world = Scenario(limits=Limits(keep_seconds=10))
    client = world.client()
    for tag in (1, 2, 3):
        client.infer(tag, keep=["y", "z"])
    world.runs()
    client.receives()
    client.release(1, "y")
    client.infer(4, x="take 2.y")
    world.runs()
    client.infer(11, x="1.y")
    client.infer(12, x="2.y")
    world.after(10)
    client.infer(13, x="3.y")
    assert client.receives() == ["done 4", *(f"failed {tag} FAILED_PRECONDITION" for tag in (11, 12, 13))]
    assert "output 'y' of ticket 1 is not kept any more" in client.errors[11].message
    assert "output 'y' of ticket 2 is not kept any more" in client.errors[12].message
    assert "output 'y' of ticket 3: no such ticket" in client.errors[13].message


def test_references_see_only_tickets_of_their_own_stream() -> None:
    world = Scenario()
    alice, bob = world.client(), world.client()
    alice.infer(1, keep=["y"])
    bob.infer(2, x="1.y")
    bob.fetch(3, "1.y")
    assert bob.receives() == ["failed 2 FAILED_PRECONDITION", "failed 3 NOT_FOUND"]


def test_the_order_of_commands_decides_and_not_how_far_a_run_has_come() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    client.release(1)
    client.infer(3, x="1.y")
    assert world.runs() == [1, 2]
    assert client.receives() == ["failed 3 FAILED_PRECONDITION", "done 1", "done 2"]
    assert client.live == set()


class TestTake:
    def test_take_is_a_reference_and_a_release_in_one_step(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="take 1.y")
        client.infer(3, x="take 1.y")
        assert client.receives() == ["failed 3 FAILED_PRECONDITION"]
        assert "output 'y' of ticket 1" in client.errors[3].message
        assert world.starts() == [1]
        world.end(1)
        assert client.receives() == ["done 1"]
        assert client.live == {2}
        assert world.core.accounts.keep.used == 1024
        assert world.starts() == [2]
        world.end(2)
        assert world.core.accounts.keep.used == 0

    def test_take_frees_the_tag_of_a_ticket_whose_end_was_received(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        assert client.receives() == ["done 1"]
        client.infer(2, x="take 1.y")
        client.infer(1)
        assert world.runs() == [2, 1]
        assert client.receives() == ["done 2", "done 1"]

    def test_take_releases_only_the_output_it_names(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y", "z"])
        client.infer(2, x="take 1.y")
        world.runs()
        client.receives()
        assert client.live == {1}
        assert [kept.port.name for kept in client.stream.tickets[1].own.values()] == ["z"]

    def test_take_is_not_undone_when_the_taker_fails(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.infer(2, x="take 1.y")
        client.cancel(2)
        client.fetch(3, "1.y")
        assert client.receives() == ["done 1", "failed 2 CANCELLED", "failed 3 NOT_FOUND"]
        assert world.core.accounts.keep.used == 0


class TestShapes:
    def world(self) -> Scenario:
        return Scenario(
            model(
                "give",
                [port(0, "x", 4)],
                [port(0, "f", 4), port(1, "i", 4, datatype=Datatype.INT64), port(2, "d", None)],
            ),
            model("four", [port(0, "x", 4)], [port(0, "y", 4)]),
            model("small", [port(0, "x", (1, 3))], [port(0, "y", 4)]),
            model("flat", [port(0, "x", 2, 2)], [port(0, "y", 4)]),
        )

    @pytest.mark.parametrize(
        ("taker", "output"), [("four", "i"), ("small", "f"), ("flat", "f"), ("flat", "d")], ids=str
    )
    def test_datatype_and_static_dimensions_of_a_reference_are_checked_at_admission(
        self, taker: str, output: str
    ) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, "give", keep=["f", "i", "d"])
        client.infer(2, taker, x=f"take 1.{output}")
        assert client.receives() == ["failed 2 INVALID_ARGUMENT"]
        error = client.errors[2]
        assert isinstance(error, InvalidArgument)
        for culprit in ("input 'x'", f"output '{output}' of ticket 1", "FP32["):
            assert culprit in error.message
        client.infer(3, "four", x="1.f")
        assert world.runs() == [1, 3]

    @pytest.mark.parametrize("taker", ["four", "small"])
    def test_dynamic_dimensions_of_a_reference_are_checked_when_the_source_is_done(self, taker: str) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, "give", keep=["d"])
        client.infer(2, taker, x="take 1.d", keep=["y"])
        client.infer(3, "four", x="2.y")
        assert world.starts() == [1]
        world.end(1, d=7)
        assert world.starts() == []
        assert client.receives() == ["done 1", "failed 2 INVALID_ARGUMENT", "failed 3 FAILED_PRECONDITION"]
        assert "output 'd' of ticket 1 has shape [7]" in client.errors[2].message
        assert "output 'y' of ticket 2" in client.errors[3].message
        assert client.live == set()
        assert world.core.accounts.keep.used == 0

    def test_dynamic_dimensions_are_checked_at_admission_when_the_source_is_done_already(self) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, "give", keep=["d"])
        assert world.starts() == [1]
        world.end(1, d=7)
        client.infer(2, "small", x="take 1.d")
        assert client.receives() == ["done 1", "failed 2 INVALID_ARGUMENT"]
        assert "has shape [7]" in client.errors[2].message
        assert client.live == {1}
