"""Tickets that may be what ends the servers are sent alone, and then not again."""

from __future__ import annotations

from headrace.wire.errors import (
    FailedPrecondition,
    Internal,
)
from tests.client.resuming.house import House, x, y


def test_what_was_in_flight_at_two_breaks_is_sent_alone(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(3)]
    house.write()
    house.resume()
    house.write()
    assert house.tags() == [1, 2, 3]
    house.resume()
    house.write()
    assert house.tags() == [1]
    assert house.stream.free_window == 0
    house.run()
    assert house.tags() == [1, 2, 3]
    assert [y(ticket) for ticket in tickets] == [1, 2, 3]
    assert house.stream.free_window > 0


def test_the_third_break_fails_the_one_that_was_alone(house: House) -> None:
    poison = house.submit({"x": x()}, keep=("z",))
    dependent = house.submit({"x": house.refer(poison)})
    other = house.submit({"x": x()})
    for _ in range(3):
        house.write()
        house.resume()
    assert isinstance(poison.error, Internal)
    assert "broke 3 times" in poison.error.message
    house.run()
    assert isinstance(dependent.error, FailedPrecondition)
    assert "ticket 1 is not available" in dependent.error.message
    assert y(other) == 2


def test_after_a_crash_each_goes_alone_so_that_the_second_crash_has_its_cause(house: House) -> None:
    tickets = [house.submit({"x": x(value)}) for value in range(4)]
    house.write()
    house.resume(crashed=True)
    house.write()
    house.server.finish(1)
    house.read()
    house.write()
    assert house.tags() == [1, 2]
    house.resume(crashed=True)  # the second has ended two servers
    assert isinstance(tickets[1].error, Internal)
    assert "broke 2 times" in tickets[1].error.message
    house.run()
    assert [y(tickets[at]) for at in (0, 2, 3)] == [1, 3, 4]


def test_a_crash_under_many_is_first_followed_by_all_of_them() -> None:
    """One by one they would take long, and most crashes are not the fault of a request."""
    house = House(window=64)
    house.connect()
    tickets = [house.submit({"x": x()}) for _ in range(40)]
    for sent in (40, 1, 1):
        house.resume(crashed=True)
        while house.write():
            pass
        assert len(house.tags()) == sent
    assert isinstance(tickets[0].error, Internal)
    house.run()
    assert len(house.ended) == len(tickets)
    assert all(ticket.error is None for ticket in tickets[1:])


def test_a_source_that_ends_the_servers_when_it_is_made_again_is_lost(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)})
    for _ in range(4):
        house.write()
        house.resume()
    house.run()
    assert dependent.ended
    assert "broke 3 times" in str(dependent.error)
    later = house.submit({"x": house.refer(source)})
    assert "broke 3 times" in str(later.error)


def test_breaks_count_anew_after_an_end(house: House) -> None:
    """A kept output may be made again at any number of servers."""
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    for _ in range(8):
        house.submit({"x": house.refer(source)})
        house.write()
        house.resume()
        house.run()
    assert all(ticket.error is None for ticket in house.ended)
