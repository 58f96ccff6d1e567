"""A kept input is a kept output in every respect, from the end of its ticket on."""

from __future__ import annotations

import pytest

from headrace.server.core.events import Done, Fetched
from headrace.server.core.kept_outputs import MIN_CHARGE_BYTES
from headrace.server.core.limits import Limits
from headrace.wire.errors import FailedPrecondition, Internal, InvalidArgument, NotFound
from tests.server.core.model_specs import add, grow, model, port, step
from tests.server.core.scenario import Client, Scenario

KILO = 256
"""Elements of 1,024 bytes."""


def kept(client: Client, tag: int) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes that a Done says are kept."""
    done = client.events[tag]
    assert isinstance(done, Done)
    return [(each.name, tensor.shape) for each, tensor in done.kept]


def test_it_is_the_input_of_a_later_ticket_once_its_own_is_done() -> None:
    world = Scenario(slots=2)
    client = world.client()
    client.infer(1, "grow", keep=["y"], keep_inputs=["x"], x=(7,))
    client.infer(2, "grow", x="1.x")
    assert world.starts() == [1], "not before: ticket 1 may still fail"
    world.end(1, y=3)
    assert world.starts() == [2]
    assert world.part(2).references[0].shape == (7,)
    world.end(2)
    assert client.receives() == ["done 1", "done 2"]
    assert kept(client, 1) == [("y", (3,)), ("x", (7,))], "outputs first"


def test_it_is_fetched_released_and_taken() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, "add", keep_inputs=["b", "a"])
    client.infer(2, "add", keep_inputs=["a"], a="take 1.a", b="1.b")
    client.fetch(3, "1.b", (1, 3))
    assert world.runs() == [1, 2]
    assert client.receives() == ["done 1", "fetched 3", "done 2"]
    fetched = client.events[3]
    assert isinstance(fetched, Fetched)
    assert (fetched.port.name, fetched.shape) == ("b", (2,))
    assert kept(client, 1) == [("b", (4,))], "a was taken by ticket 2"
    client.release(1, "b")
    assert client.live == {2}
    client.infer(4, x="1.b")
    client.infer(5, x="2.b")
    client.infer(6, x="2.y")
    assert world.runs() == []
    client.receives()
    assert [str(client.errors[tag]) for tag in (4, 5, 6)] == [
        "output 'b' of ticket 1: no such ticket is live in this stream",
        "input 'b' of ticket 2 was not named in keep_inputs",
        "output 'y' of ticket 2 was not named in keep",
    ]
    client.infer(7, x="take 2.a", keep_inputs=["x"])
    assert world.runs() == [7]
    assert client.receives() == ["done 7"]
    assert client.live == {7}
    assert world.core.accounts.keep.used == MIN_CHARGE_BYTES


def test_it_is_charged_from_the_start_of_the_run_as_kept_bytes() -> None:
    world = Scenario(model("text", [port(0, "x", 1), port(1, "big", None)], [port(0, "y", 4)]), grow())
    client = world.client()
    client.infer(1, "text", keep_inputs=["x", "big"], big=(3 * KILO,))
    assert world.core.accounts.keep.used == 0
    assert world.starts() == [1]
    assert world.core.accounts.keep.used == MIN_CHARGE_BYTES + (3 << 10), "the size of the call, though dynamic"
    world.end(1)
    assert world.core.accounts.keep.used == MIN_CHARGE_BYTES + (3 << 10)
    client.infer(2, "grow", x="take 1.big", keep_inputs=["x"])
    assert world.runs() == [2]
    assert world.core.accounts.keep.used == MIN_CHARGE_BYTES + (3 << 10), "kept again, and released where it was"


def test_what_does_not_fit_the_quota_fails() -> None:
    world = Scenario(grow(), limits=Limits(keep_bytes=2 << 10))
    client = world.client()
    client.infer(1, "grow", keep_inputs=["x"], x=(KILO * 3,))
    assert world.starts() == []
    assert client.receives() == ["failed 1 RESOURCE_EXHAUSTED"]
    assert "keeping input 'x' of ticket 1 takes 3072 bytes" in str(client.errors[1])
    assert world.core.accounts.keep.used == 0


def test_its_keep_time_ends_it() -> None:
    world = Scenario(limits=Limits(keep_seconds=10))
    client = world.client()
    client.infer(1, keep_inputs=["x"])
    assert world.runs() == [1]
    client.receives()
    world.after(10)
    assert client.live == set()
    client.fetch(2, "1.x")
    assert client.receives() == ["failed 2 NOT_FOUND"]


@pytest.mark.parametrize("how", ["fails", "cancelled", "expires"])
def test_a_ticket_without_a_result_keeps_nothing(how: str) -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep_inputs=["x"], timeout=5)
    client.infer(2, x="1.x", keep_inputs=["x"])
    client.infer(3, x="2.x")
    client.fetch(4, "1.x")
    assert world.starts() == [1]
    if how == "fails":
        world.end(1, Internal("broken"))
    elif how == "cancelled":
        client.cancel(1)
    else:
        world.after(5)
    if how != "fails":
        world.end(1)
    client.receives()
    assert isinstance(client.errors[2], FailedPrecondition)
    assert str(client.errors[2]).startswith("input 'x' of ticket 1 is not available: the ticket ended with ")
    assert isinstance(client.errors[3], FailedPrecondition)
    assert isinstance(client.errors[4], NotFound)
    assert client.live == set()
    assert world.core.accounts.keep.used == world.core.accounts.queue.used == 0


def test_one_that_was_released_before_the_run_is_not_made() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"], keep_inputs=["x"])
    client.release(1, "x")
    assert world.starts() == [1]
    assert world.part(1).keep == (0,)


def test_names_of_inputs_and_outputs_are_told_apart() -> None:
    """A model may give an input and an output one name. Which is kept is said; both cannot be."""
    filters = model("filter", [port(0, "image|in", 2)], [port(0, "image|out", 4)])
    world = Scenario(filters, step(), grow())
    client = world.client()
    client.infer(1, "filter", keep=["image"])
    client.infer(2, "filter", keep_inputs=["image"])
    client.infer(3, "grow", x="1.image")
    client.infer(4, "grow", x="2.image")
    client.infer(5, "grow", x="2.in")
    assert world.starts() == [1]
    world.end(1)
    assert set(world.starts()) == {2, 3}
    assert world.part(3).references[0].shape == (4,)
    world.end(2)
    world.end(3)
    assert world.starts() == [4]
    assert world.part(4).references[0].shape == (2,)
    world.end(4)
    assert world.runs() == [5]
    client.receives()
    client.infer(6, "filter", keep=["out"], keep_inputs=["in"])
    client.receives()
    assert isinstance(client.errors[6], InvalidArgument)
    assert str(client.errors[6]) == (
        "input 'image' cannot be kept beside output 'image', which has the name 'image' as well"
    )


def test_what_cannot_be_kept_is_refused() -> None:
    world = Scenario(step(), add())
    client = world.client()
    client.infer(1, keep_inputs=["none"])
    client.infer(2, keep_inputs=["x", "x"])
    client.infer(3, keep_inputs=["x"] * 1025)
    assert client.receives() == [f"failed {tag} INVALID_ARGUMENT" for tag in (1, 2, 3)]
    assert [str(client.errors[tag]) for tag in (1, 2, 3)] == [
        "model 'step' has no input 'none'; it has 'x'",
        "input 'x' is named twice in keep_inputs",
        "the call names 1025 keep_inputs; the limit is 1024",
    ]
