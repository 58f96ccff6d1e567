"""When a source fails, every ticket that waits for it fails too, all the way down."""

from __future__ import annotations

import pytest

from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from tests.server.core.scenario import Client, Scenario

DEEP = 1000


def cancel(world: Scenario, client: Client) -> None:
    client.cancel(1)


def expire(world: Scenario, client: Client) -> None:
    world.after(5)


def fail(world: Scenario, client: Client) -> None:
    world.end(1, Internal("the server failed under 1234"))


ENDS = [(cancel, "CANCELLED"), (expire, "DEADLINE_EXCEEDED"), (fail, "INTERNAL")]


@pytest.mark.parametrize(("end", "code"), ENDS)
def test_every_kind_of_failure_is_passed_on(end: object, code: str) -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y", "z"], timeout=5)
    client.infer(2, x="take 1.y", keep=["y"])
    client.infer(3, "add", a="2.y")
    client.fetch(4, "1.z")
    client.fetch(5, "2.y")
    assert world.starts() == [1]
    end(world, client)  # type: ignore[operator]
    assert client.receives() == [
        f"failed 1 {code}",
        "failed 2 FAILED_PRECONDITION",
        "failed 4 NOT_FOUND",
        "failed 3 FAILED_PRECONDITION",
        "failed 5 NOT_FOUND",
    ]
    for tag, source, why in ((2, "1", code), (4, "1", code), (3, "2", "FAILED_PRECONDITION")):
        output = "z" if tag == 4 else "y"
        assert f"output '{output}' of ticket {source} is not available" in client.errors[tag].message
        assert why in client.errors[tag].message
        assert not client.errors[tag].retryable
    world.starts()
    assert world.stopping == ([] if end is fail else [1])
    if end is not fail:
        world.end(1)
    assert world.starts() == []
    assert client.live == set()
    assert world.core.accounts.keep.used == world.core.accounts.queue.used == 0


def test_a_failure_is_passed_on_through_a_chain_of_a_thousand_tickets() -> None:
    world = Scenario(limits=Limits(window=2 * DEEP))
    client = world.client()
    client.infer(1, keep=["y"])
    for tag in range(2, DEEP + 1):
        client.infer(tag, x=f"{tag - 1}.y", keep=["y"])
    assert world.starts() == [1]
    client.cancel(1)
    rest = [f"failed {tag} FAILED_PRECONDITION" for tag in range(2, DEEP + 1)]
    assert client.receives() == ["failed 1 CANCELLED", *rest]
    assert f"ticket {DEEP - 1} " in client.errors[DEEP].message
    assert client.live == set()


def test_a_failure_is_passed_on_to_a_thousand_dependants_in_the_middle_of_a_chain() -> None:
    world = Scenario(limits=Limits(window=2 * DEEP))
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y", keep=["y"])
    for tag in range(3, DEEP):
        client.infer(tag, "add", a="2.y", b="1.y")
    client.cancel(2)
    assert len(client.receives()) == DEEP - 2
    assert client.live == {1}
    assert world.runs() == [1]


def test_an_ordered_stream_gets_passed_on_failures_in_order() -> None:
    world = Scenario(slots=2)
    client = world.client(ordered=True)
    client.infer(1)
    client.infer(2, keep=["y"])
    client.infer(3, x="2.y")
    client.infer(4)
    world.starts()
    world.end(2, Internal("no"))
    assert client.receives() == []
    world.end(1)
    assert client.receives() == ["done 1", "failed 2 INTERNAL", "failed 3 FAILED_PRECONDITION"]
    assert world.runs() == [4]


def test_a_ticket_with_two_sources_of_which_one_fails_fails_once() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    client.infer(2, keep=["y", "z"])
    client.infer(3, "add", a="2.y", b="take 1.y")
    client.cancel(2)
    assert client.receives() == ["done 1", "failed 2 CANCELLED", "failed 3 FAILED_PRECONDITION"]
    assert client.live == set()
    assert world.core.accounts.keep.used == 0


def test_a_ticket_whose_source_is_done_is_not_harmed_by_later_failures() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    client.infer(2, x="1.y")
    client.cancel(1)
    client.release(1)
    assert world.runs() == [2]
    assert client.receives() == ["done 1", "done 2"]
