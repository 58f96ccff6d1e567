"""The doors of RPCs: whose a call is, and which are open."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from headrace.server.core.clients import NO_LIMITS, Client
from headrace.server.transport.entrance import Entrance
from headrace.wire.errors import HeadraceError, Unauthenticated


class Call:
    def __init__(self) -> None:
        self.client: Hashable = None
        self.ended: HeadraceError | None = None

    @property
    def peer(self) -> Callable[[], str]:
        return lambda: "ipv4:10.0.0.1:5000"

    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return ()

    def certificate_names(self) -> Sequence[str]:
        return ()

    def end_with(self, error: HeadraceError) -> None:
        self.ended = error


def test_a_client_has_as_many_calls_as_are_open() -> None:
    """However they end: by themselves, said twice, or because they are asked again."""
    alice = Client("alice", NO_LIMITS)
    may = [True]

    def ask(_call: object) -> Hashable:
        if not may[0]:
            raise Unauthenticated("no more")
        return alice

    entrance = Entrance(lambda _path: ask)
    door = entrance.door("/service/Method")
    calls = [Call() for _ in range(3)]
    for number, call in enumerate(calls, 1):
        door.admit(call)
        assert call.client is alice
        door.opened(call)
        assert alice.calls == number
    door.closed(calls[0])
    door.closed(calls[0])
    assert alice.calls == 2
    entrance.ask_again()
    assert [call.ended for call in calls] == [None] * 3
    may[0] = False
    entrance.ask_again()
    assert [call.ended is None for call in calls] == [True, False, False]
    assert alice.calls == 0
    door.closed(calls[1])  # the handler ends, too
    assert alice.calls == 0


def test_a_call_that_everybody_may_make_is_its_connections() -> None:
    for entrance in (Entrance(), Entrance(lambda _path: lambda _call: None)):
        door, call = entrance.door("/service/Method"), Call()
        door.admit(call)
        assert call.client == "ipv4:10.0.0.1:5000"
        door.opened(call)
        entrance.ask_again()
        door.closed(call)
        assert call.ended is None
