"""What an event says about its ticket, for the log and for traces: the model, where the time went, and how it ran."""

from __future__ import annotations

import pytest

from headrace.server.core.calls import Call, Inline
from headrace.server.core.engine_api import End, Ended
from headrace.server.core.events import Done, Failed
from headrace.server.core.limits import Limits
from headrace.wire.dtypes import Datatype
from headrace.wire.errors import Internal, ResourceExhausted
from tests.server.core.model_specs import many
from tests.server.core.scenario import Client, Scenario, infer_many


def failed(client: Client, tag: int) -> Failed:
    client.receives()
    event = client.events[tag]
    assert isinstance(event, Failed)
    return event


def done(client: Client, tag: int) -> Done:
    client.receives()
    event = client.events[tag]
    assert isinstance(event, Done)
    return event


def times(event: Failed | Done) -> tuple[float, float, float]:
    return event.waiting, event.queued, event.running


def test_a_failed_run_says_where_the_time_went() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    world.starts()
    world.now += 3
    world.end(1)
    assert world.starts() == [2]
    world.now += 5
    world.end(2, Internal("broken"))
    event = failed(client, 2)
    assert (event.model, event.version) == ("step", "1")
    assert times(event) == pytest.approx((3, 0, 5))
    assert times(done(client, 1)) == pytest.approx((0, 0, 3))


@pytest.mark.parametrize("state", ["waiting", "queued", "running"])
def test_a_ticket_that_is_cancelled_has_spent_its_time_where_it_was(state: str) -> None:
    world = Scenario(slots=1)
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y") if state == "waiting" else client.infer(2)
    assert world.starts() == [1]
    if state == "running":
        world.now += 1
        world.end(1)
        assert world.starts() == [2]
    world.now += 2
    client.cancel(2)
    expected = {"waiting": (2, 0, 0), "queued": (0, 2, 0), "running": (0, 1, 2)}[state]
    assert times(failed(client, 2)) == pytest.approx(expected)


def test_a_dependant_names_its_own_model_and_not_that_of_its_source() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    world.starts()
    world.now += 2
    world.end(1, Internal("broken"))
    client.receives()
    assert times(failed(client, 1)) == pytest.approx((0, 0, 2))
    assert times(failed(client, 2)) == pytest.approx((2, 0, 0))


def test_bad_content_and_refusals_name_the_model_that_was_asked_for() -> None:
    world = Scenario(limits=Limits(window=1))
    client = world.client()
    client.infer(1)
    client.infer(2)
    refused = failed(client, 2)
    assert isinstance(refused.error, ResourceExhausted)
    assert (refused.admitted, refused.model, refused.version) == (False, "step", "")
    world.runs()
    client.receives()
    client.infer(3, tensors=[b"odd"])
    wrong = failed(client, 3)
    assert (wrong.admitted, wrong.model, wrong.version, times(wrong)) == (True, "step", "", (0, 0, 0))


def test_the_name_of_a_model_that_does_not_exist_is_cut() -> None:
    """A client decides how long it is, and an event may wait."""
    world = Scenario()
    client = world.client()
    number = client.define(Call("x" * 100_000, "", (Inline("x", int(Datatype.FP32), (1,)),), (), False, ()))
    world.core.infer(client.stream, 1, number, [bytes(4)], world.core.charge(client.stream, 4), world.now)
    assert failed(client, 1).model == "x" * 200
    world.core.infer(client.stream, 2, 77, [bytes(4)], world.core.charge(client.stream, 4), world.now)
    assert failed(client, 2).model == ""


def test_a_result_says_how_many_tickets_shared_its_run() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1)
    assert world.starts() == [1]
    infer_many(client, 2, 3, 4)
    world.end(1)
    assert world.starts() == [2, 3, 4]
    world.end(2)
    assert [done(client, tag).shared for tag in (1, 2, 3, 4)] == [1, 3, 3, 3]
    assert not any(done(client, tag).direct for tag in (1, 2, 3, 4))


def test_a_result_says_whether_its_run_was_in_place() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    (run,) = world.core.decide(world.now).starts
    assert world.core.ended_in_place([End(Ended(run, [[]], [[]]), None, world.now)])
    assert done(client, 1).direct
