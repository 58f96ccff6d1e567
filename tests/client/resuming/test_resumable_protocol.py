"""Lost outputs, mistakes, servers that drain, and the end."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.protocol.inputs import Reference
from headrace.wire.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from tests.client.resuming.house import House, x, y


def test_a_lost_output_is_an_error_with_a_way_out(house: House) -> None:
    source = house.submit({"x": x()}, keep=("z",))
    house.run()
    house.stream.journal.keep_seconds = 300.0
    house.now = 302.0
    house.submit({"x": x()})
    house.run()
    assert not house.stream.journal.entries
    reference = Reference(house.stream, source.tag, "z")
    with_reference = house.submit({"x": reference})
    fetched = house.fetch(source)
    assert isinstance(with_reference.error, FailedPrecondition)
    assert "nothing used it for the keep time of 300 s; submit its inference again" in with_reference.error.message
    assert isinstance(fetched.error, NotFound)


def test_a_ticket_of_another_stream_is_still_a_mistake(house: House) -> None:
    other = House()
    other.connect()
    foreign = other.submit({"x": x()}, keep=("z",))
    with pytest.raises(ValueError, match="another stream"):
        house.submit({"x": other.refer(foreign)})
    assert not house.stream.journal.entries


def test_what_raises_has_no_effect(house: House) -> None:
    with pytest.raises(InvalidArgument):
        house.submit({"x": np.zeros(1, np.complex64)}, keep=("z",))
    with pytest.raises(ResourceExhausted):
        house.submit({"x": np.zeros(1 << 20, np.float32)}, keep=("z",))
    with pytest.raises(TypeError, match="list of names"):
        house.submit({"x": x()}, outputs="y")
    with pytest.raises(ValueError, match="NaN"):
        house.submit({"x": x()}, timeout=float("nan"))
    assert (len(house.stream.journal.entries), house.stream.journal.bytes) == (0, 0)
    assert house.submit({"x": x()}).tag == 1


def test_a_server_that_drains_gets_nothing_new_and_what_it_refused_is_sent_elsewhere(house: House) -> None:
    first = house.submit({"x": x()}, keep=("z",))
    house.write()
    house.server.drain()
    refused = house.submit({"x": house.refer(first, take=True)}, keep=("z",))
    behind = house.submit({"x": house.refer(refused)})
    house.run()
    assert house.stream.draining
    assert house.stream.free_window == 0
    assert (first.ended, refused.ended, behind.ended) == (True, False, False)
    assert house.stream.idle
    house.resume()
    house.run()
    assert (y(refused), y(behind)) == (3, 5)


def test_the_end_fails_what_is_in_flight_and_closes(house: House) -> None:
    ticket = house.submit({"x": x()})
    house.lose()
    error = Unavailable("patience is over")
    assert house.stream.end(error) == [ticket]
    assert ticket.error is error
    with pytest.raises(Unavailable, match="patience is over"):
        house.submit({"x": x()})


def test_inputs_are_copies(house: House) -> None:
    value = x(1)
    ticket = house.submit({"x": value})
    value[:] = 100
    house.resume()
    house.run()
    assert y(ticket) == 2
