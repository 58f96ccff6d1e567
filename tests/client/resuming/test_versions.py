"""What is made again is made by the same version, from the same files."""

from __future__ import annotations

from headrace.client.resuming import journal
from headrace.wire.errors import (
    FailedPrecondition,
)
from tests.client.resuming.house import House, call, chain, x, y


def test_a_source_is_made_again_by_the_same_version(house: House) -> None:
    house.version = "3"
    house.resume()
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)})
    server = house.resume()
    house.run()
    assert (call(server, source.tag).version, call(server, dependent.tag).version) == ("3", "3")
    house.version = "4"
    later = house.submit({"x": house.refer(source)})
    house.resume()
    house.run()
    assert isinstance(later.error, FailedPrecondition)
    assert "could not be repeated (model 'm' has no version '3'); submit it again" in later.error.message
    again = house.submit({"x": house.refer(source)})
    house.run()
    assert again.error is not None
    assert again.error.message == later.error.message


def test_a_chain_that_goes_on_from_a_checkpoint_keeps_its_version(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    house.version = "2"
    house.resume()
    later = house.submit({"x": house.refer(tickets[-1]), "u": x()})
    house.run()
    assert isinstance(later.error, FailedPrecondition)
    assert "were made by version 1 of model 'm', which the server" in later.error.message


def test_other_files_under_the_same_version_are_noticed(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    dependent = house.submit({"x": house.refer(source)}, keep=("z",))
    further = house.submit({"x": house.refer(dependent)})
    other = house.submit({"x": x()})
    house.fingerprint = 8
    house.resume()
    house.run()
    for ticket in (dependent, further):
        assert isinstance(ticket.error, FailedPrecondition)
    assert "has other files (fingerprint 0000000000000008, before 0000000000000007)" in str(dependent.error)
    assert y(other) == 2
    assert [ticket.tag for ticket in house.ended].count(dependent.tag) == 1


def test_other_files_are_noticed_where_a_checkpoint_is_used(house: House) -> None:
    tickets = chain(house, journal.MAX_LINKS)
    house.fingerprint = 8
    house.resume()
    later = house.submit({"x": house.refer(tickets[-1]), "u": x()})
    of_other_model = house.submit({"x": house.refer(tickets[-1]), "u": x()}, model="n")
    house.run()
    assert "results of both are never mixed" in str(later.error)
    assert of_other_model.error is None


def test_other_files_are_noticed_although_what_is_between_does_not_say(house: House) -> None:
    """Neither outputs nor kept ones: the layout of its end is empty."""
    tickets = chain(house, journal.MAX_LINKS)
    house.fingerprint = 8
    house.resume()
    later = tickets[-1:]
    for _ in range(3):
        later.append(house.submit({"x": house.refer(later[-1], take=True), "u": x()}, keep=("z",), outputs=[]))
    last = house.submit({"x": house.refer(later[-1], take=True), "u": x()})
    while house.write():
        pass
    for ticket in later[1:]:
        work = house.server.in_flight[ticket.tag]
        work.call.ClearField("keep")  # as the server describes what was taken before the end
        house.server.finish(ticket.tag)
    house.run()
    assert "results of both are never mixed" in str(last.error)
