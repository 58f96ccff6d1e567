"""Which calls are ended when memory is short, and which are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.server.transport.receiving import Receiving
from headrace.wire.errors import HeadraceError, ResourceExhausted


class Call:
    """A call that waits for a message for ever."""

    def __init__(self, peer: str) -> None:
        self.peer: Callable[[], str] = lambda: peer
        self.error: HeadraceError | None = None

    def end_with(self, error: HeadraceError) -> None:
        assert self.error is None
        self.error = error


class Calls:
    def __init__(self) -> None:
        self.receiving = Receiving()
        self.calls: dict[str, Call] = {}

    def arrive(self, name: str, peer: str) -> None:
        self.calls[name] = Call(peer)
        self.receiving.add(self.calls[name])

    def ended(self) -> set[str]:
        return {name for name, call in self.calls.items() if call.error is not None}


@pytest.mark.parametrize("scheme", ["ipv4:10.0.0.%d:%d", "ipv6:%%5B::%d%%5D:%d"])
def test_the_host_with_the_most_calls_loses_half_of_them_the_latest_first(scheme: str) -> None:
    calls = Calls()
    for number in range(3):
        calls.arrive(f"good {number}", scheme % (1, 5000))
    for number in range(5):
        calls.arrive(f"bad {number}", scheme % (2, 6000 + number))
    count, host = calls.receiving.end_some()
    assert (count, host) == (3, (scheme % (2, 0)).removesuffix(":0"))
    assert calls.ended() == {"bad 2", "bad 3", "bad 4"}
    error = calls.calls["bad 4"].error
    assert isinstance(error, ResourceExhausted)
    assert error.retryable
    calls.receiving.end_some()
    assert calls.ended() == {"bad 2", "bad 3", "bad 4", "good 1", "good 2"}


def test_calls_of_one_socket_are_of_one_host() -> None:
    calls = Calls()
    calls.arrive("one", "unix:")
    calls.arrive("other", "unix:")
    assert calls.receiving.end_some() == (1, "unix:")
    assert calls.ended() == {"other"}


def test_those_that_have_received_are_not_ended() -> None:
    calls = Calls()
    calls.arrive("received", "ipv4:10.0.0.1:1")
    calls.receiving.remove(calls.calls["received"])
    assert calls.receiving.end_some() == (0, "")
    assert calls.ended() == set()
