"""What is sent again after a break, and what is not."""

from __future__ import annotations

import pytest

from headrace.wire.errors import (
    Cancelled,
    DeadlineExceeded,
    ResourceExhausted,
)
from tests.client.resuming.house import INFER, RELEASE, House, call, x, y


def test_unfinished_tickets_are_sent_again_in_order_with_their_tags(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(5)]
    house.write()
    house.server.finish(2)
    house.read()
    second = house.resume()
    house.run()
    assert house.tags(second) == [1, 3, 4, 5]
    assert [y(ticket) for ticket in tickets] == [1, 2, 3, 4, 5]
    assert [ticket.tag for ticket in house.ended] == [2, 1, 3, 4, 5]


def test_a_source_that_was_answered_is_repeated_without_outputs(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",), outputs=["y"])
    house.run()
    house.submit({"x": x(9)})  # nothing to do with it
    dependent = house.submit({"x": house.refer(source)})
    second = house.resume()
    house.run()
    assert house.tags() == [1, 2, 3]
    assert (list(call(second, 1).outputs), list(call(second, 1).keep)) == ([], ["z"])
    assert y(dependent) == 3
    assert [ticket.tag for ticket in house.ended].count(1) == 1


def test_only_what_is_needed_is_sent_again_and_the_rest_when_it_is_needed(house: House) -> None:
    first = house.submit({"x": x(1)}, keep=("z",))
    second = house.submit({"x": house.refer(first, take=True)}, keep=("z",))
    other = house.submit({"x": x(5)}, keep=("z",))
    house.run()
    server = house.resume()
    house.run()
    assert house.tags(server) == []
    last = house.submit({"x": house.refer(second)})
    house.run()
    assert house.tags(server) == [1, 2, last.tag]
    assert y(last) == 5
    assert float(house.fetch(other).tag) > 0
    house.run()
    assert house.tags(server) == [1, 2, last.tag, other.tag]


def test_a_released_output_still_reaches_those_that_refer_to_it(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependents = [house.submit({"x": house.refer(source)}) for _ in range(3)]
    house.stream.release(source, ())
    server = house.resume()
    house.run()
    assert [y(ticket) for ticket in dependents] == [3, 3, 3]
    assert not server.kept
    assert [command.kind for command in server.commands].count(RELEASE) == 1
    assert not house.stream.journal.entries


@pytest.mark.parametrize("how", ["take", "release"])
def test_a_source_stays_while_another_of_its_dependents_may_have_to_be_made_again(house: House, how: str) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    held = house.submit({"x": house.refer(source)}, keep=("z",))
    house.run()
    last = house.submit({"x": house.refer(source, take=how == "take")})
    if how == "release":
        house.stream.release(source, ())
    server = house.resume()
    house.run()  # the source and the last one; nothing needs the held one yet
    assert y(last) == 3
    later = house.submit({"x": house.refer(held)})
    house.run()
    assert y(later) == 5
    assert [tag for tag, _ in server.kept] == [held.tag]
    server = house.resume()
    another = house.submit({"x": house.refer(held, take=True)})
    house.run()
    assert y(another) == 5
    assert not server.kept
    assert not house.stream.journal.entries


def test_a_source_is_released_when_the_last_that_may_need_it_is_forgotten(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    held = house.submit({"x": house.refer(source)}, keep=("z",))
    house.run()
    house.submit({"x": house.refer(source, take=True)})
    server = house.resume()
    house.run()
    assert [tag for tag, _ in server.kept] == [source.tag]
    house.stream.release(held, ())
    house.run()
    assert not server.kept


def test_released_and_taken_outputs_are_not_made_again(house: House) -> None:
    released = house.submit({"x": x()}, keep=("z",))
    taken = house.submit({"x": x()}, keep=("z",))
    house.run()
    house.stream.release(released, ["z"])
    house.submit({"x": house.refer(taken, take=True)})
    house.run()
    assert not house.stream.journal.entries
    server = house.resume()
    house.run()
    assert house.tags(server) == []


def test_a_ticket_that_was_refused_has_taken_nothing(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    refused = house.submit({"x": house.refer(source, take=True)})
    house.write()
    house.server.fail(refused.tag, ResourceExhausted.code, "no room", retryable=True)
    house.read()
    house.resume()
    again = house.submit({"x": house.refer(source, take=True)})
    house.run()
    assert y(again) == 3


def test_the_window_of_the_next_server_holds(house: House) -> None:
    """TinyServer checks it."""
    tickets = [house.submit({"x": x(value)}, keep=("z",)) for value in range(12)]
    chained = [house.submit({"x": house.refer(ticket)}) for ticket in tickets[:4]]
    house.window = 3
    house.resume()
    assert house.stream.free_window == 0  # those that are sent again come first
    house.run()
    assert [y(ticket) for ticket in chained] == [1, 3, 5, 7]
    assert house.stream.free_window > 0


def test_an_ordered_stream_stays_ordered() -> None:
    house = House(ordered=True)
    house.connect()
    tickets = [house.submit({"x": x(value)}) for value in range(6)]
    house.write()
    house.lose()
    house.stream.cancel(tickets[3])
    assert not tickets[3].ended  # its turn has not come
    house.connect()
    house.run()
    assert house.ended == tickets
    assert isinstance(tickets[3].error, Cancelled)


def test_a_cancelled_ticket_is_not_sent_again(house: House) -> None:
    early, late = house.submit({"x": x()}), house.submit({"x": x()})
    dependent = house.submit({"x": x()}, keep=("z",))
    house.write()
    house.stream.cancel(early)
    house.lose()
    assert isinstance(early.error, Cancelled)
    house.stream.cancel(late)
    assert house.stream.take_ended() == [late]
    house.connect()
    house.run()
    assert house.tags() == [dependent.tag]


def test_a_deadline_shrinks_by_what_has_passed(house: House) -> None:
    house.submit({"x": x()}, timeout=5.0)
    short = house.submit({"x": x()}, timeout=1.0)
    house.write()
    house.lose()
    assert house.stream.next_deadline == 1.0
    house.now = 2.0
    assert house.stream.expire(house.now) == [short]
    assert house.stream.next_deadline == 5.0
    assert isinstance(short.error, DeadlineExceeded)
    server = house.connect()
    house.write()
    (command,) = [command for command in server.commands if command.kind == INFER]
    assert command.timeout_us == 3_000_000


def test_a_deadline_holds_at_a_silent_server_and_its_ticket_is_not_sent_again(house: House) -> None:
    silent = house.submit({"x": x()}, keep=("z",), timeout=1.0)
    other = house.submit({"x": x()})
    house.write()
    house.now = 2.0
    assert house.stream.expire(house.now) == [silent]
    assert isinstance(silent.error, DeadlineExceeded)
    house.lose()
    server = house.connect()
    house.write()
    assert [command.tag for command in server.commands if command.kind == INFER] == [other.tag]
    house.run()
    assert house.stream.in_flight == {}


def test_a_fetch_goes_on_at_the_next_server(house: House) -> None:
    source = house.submit({"x": x(1, size=4)}, keep=("z",))
    house.run()
    fetched = house.fetch(source, slices=((1, 3),))
    house.write()
    house.resume()
    house.run()
    assert fetched.outputs()["z"].tolist() == [2, 2]
