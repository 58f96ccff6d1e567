"""The clients on gRPC's completion queue, with the echo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.measuring.client_turn import client_turn
from tests.bench.measuring.turn import Turn, TurnFailed
from tests.bench.references.echo import STREAM, UNARY, Echo, echo_server

KINDS = {"clients.raw_unary": UNARY, "clients.raw_stream": STREAM}


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with echo_server() as echo:
        yield echo


def turn(echo: Echo, client: str, *, method: str = "", answer: bytes = b"ab") -> Turn:
    options = {"method": method or KINDS[client], "message": b"abc".hex(), "answer": answer.hex(), "in_flight": 4}
    return client_turn(client, echo.address, 0.1, pid=echo.pid, processes=2, **options)


@pytest.mark.parametrize("client", KINDS)
def test_a_turn_knows_what_both_ends_have_used(echo: Echo, client: str) -> None:
    done = turn(echo, client)
    assert done.requests > 8
    assert done.p50 is not None
    assert done.p99 is not None
    assert 0 < done.p50 <= done.p99 < 60
    assert done.server_us is not None
    assert done.client_us is not None
    assert 1 < done.server_us < 1e5
    assert 1 < done.client_us < 1e5


@pytest.mark.parametrize("client", KINDS)
def test_a_wrong_answer_fails_the_turn(echo: Echo, client: str) -> None:
    with pytest.raises(TurnFailed, match="an answer is not the right one"):
        turn(echo, client, answer=b"x")


@pytest.mark.parametrize("client", KINDS)
def test_a_call_that_ends_with_an_error_fails_the_turn(echo: Echo, client: str) -> None:
    with pytest.raises(TurnFailed, match="Method not found"):
        turn(echo, client, method="/headrace.bench.Echo/Nothing")
